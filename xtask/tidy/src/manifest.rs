//! Rules for manifests: what the workspace decides once is not decided again.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::{Problem, Source};

/// Members that are no models.
const OTHERS: [&str; 2] = ["common", "xtask"];

/// Fields that every member inherits from the workspace.
const INHERITED: [&str; 5] =
    ["version", "edition", "rust-version", "license", "publish"];

/// Checks a member's manifest.
pub fn check(source: &Source, is_model: bool) -> Result<Vec<Problem>> {
    let manifest = parse(source)?;
    let mut problems = Vec::new();
    let name = source.path.split('/').next().unwrap_or_default();
    if !is_model && !OTHERS.contains(&name) {
        problems.push(Problem::new(
            source,
            1,
            "the crate has no [package.metadata.model]",
            "declare the model it is: CONTRIBUTING.md shows the fields",
        ));
    }
    problems.extend(lints(source, &manifest));
    problems.extend(package(source, &manifest));
    problems.extend(dependencies(source, &manifest));
    Ok(problems)
}

fn parse(source: &Source) -> Result<Table> {
    source.text.parse().with_context(|| source.path.clone())
}

/// Lints that a member does not ask for do not apply to it.
fn lints(source: &Source, manifest: &Table) -> Option<Problem> {
    let inherited = manifest.get("lints").is_some_and(from_workspace);
    (!inherited).then(|| {
        Problem::new(
            source,
            line_of(source, "[lints"),
            "the workspace's lints do not apply to this crate",
            "add [lints] with workspace = true",
        )
    })
}

fn package(source: &Source, manifest: &Table) -> Vec<Problem> {
    let package = manifest.get("package");
    let fields = INHERITED.into_iter().filter(|field| {
        let value = package.and_then(|package| package.get(field));
        !value.is_some_and(from_workspace)
    });
    let problem = |field| {
        Problem::new(
            source,
            line_of(source, field),
            format!("{field} is not the workspace's"),
            format!("write {field}.workspace = true"),
        )
    };
    fields.map(problem).collect()
}

/// Versions and their reasons stand in one place.
fn dependencies(source: &Source, manifest: &Table) -> Vec<Problem> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets
        .into_iter()
        .flat_map(|targets| targets.values().filter_map(Value::as_table))
        .chain([manifest]);
    let dependencies = tables.flat_map(|table| {
        let kinds = kinds.iter().filter_map(|kind| table.get(*kind));
        kinds.filter_map(Value::as_table).flatten()
    });
    let own = dependencies.filter(|(_, value)| !from_workspace(value));
    let problem = |(name, _): (&String, &Value)| {
        Problem::new(
            source,
            line_of(source, name),
            format!("the dependency {name} is not the workspace's"),
            format!(
                "put its version into [workspace.dependencies] and write \
                 {name}.workspace = true"
            ),
        )
    };
    own.map(problem).collect()
}

/// Each dependency that is not a member itself has a user and a reason:
/// `reasons` is the text that names it as code.
pub fn check_dependencies(
    root: &Source,
    members: &[&Source],
    reasons: &str,
) -> Result<Vec<Problem>> {
    let manifest = parse(root)?;
    let listed = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies")?.as_table());
    let mut problems = Vec::new();
    let others = listed
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.get("path").is_none());
    for (name, _) in others {
        let line = line_of(root, &format!("{name} "));
        let used = |member: &&Source| {
            let starts = |line: &str| {
                let rest = line.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.starts_with([' ', '.', '=']))
            };
            member.text.lines().any(starts)
        };
        if !members.iter().any(used) {
            let wrong = format!("no crate depends on {name}");
            problems.push(Problem::new(root, line, wrong, "take it out"));
        }
        if !reasons.contains(&format!("`{name}`")) {
            problems.push(Problem::new(
                root,
                line,
                format!("ARCHITECTURE.md does not say why {name} is here"),
                "add it to the table of dependencies",
            ));
        }
    }
    Ok(problems)
}

fn from_workspace(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// The first line that contains the text, or the first line of all.
fn line_of(source: &Source, text: &str) -> usize {
    let line = source.text.lines().position(|line| line.contains(text));
    line.map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[package]
name = "blocking"
description = "One conversation at a time"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[dependencies]
anyhow.workspace = true
nix = { workspace = true, features = ["net"] }

[lints]
workspace = true
"#;

    fn wrongs(path: &str, text: &str) -> Vec<String> {
        let problems = check(&Source::sample(path, text), false).unwrap();
        let text = |p: Problem| format!("{}: {}", p.line, p.wrong);
        problems.into_iter().map(text).collect()
    }

    #[test]
    fn a_good_manifest_passes() {
        assert_eq!(wrongs("xtask/Cargo.toml", GOOD), [""; 0]);
    }

    #[test]
    fn what_is_not_inherited_is_found() {
        let rows = [
            (
                "[lints]\nworkspace = true\n",
                "",
                "1: the workspace's lints do not apply to this crate",
            ),
            (
                "edition.workspace = true",
                "edition = \"2021\"",
                "5: edition is not the workspace's",
            ),
            (
                "anyhow.workspace = true",
                "anyhow = \"1\"",
                "11: the dependency anyhow is not the workspace's",
            ),
            (
                "[lints]",
                "[dev-dependencies.divan]\nversion = \"1\"\n[lints]",
                "14: the dependency divan is not the workspace's",
            ),
            (
                "[lints]",
                "[target.'cfg(unix)'.dependencies]\na = \"1\"\n[lints]",
                "1: the dependency a is not the workspace's",
            ),
        ];
        for (from, to, expected) in rows {
            let text = GOOD.replace(from, to);
            assert_eq!(wrongs("xtask/Cargo.toml", &text), [expected]);
        }
    }

    #[test]
    fn a_member_is_a_model() {
        let expected = "1: the crate has no [package.metadata.model]";
        assert_eq!(wrongs("blocking/Cargo.toml", GOOD), [expected]);
    }

    #[test]
    fn dependencies_have_users_and_reasons() {
        let root = Source::sample(
            "Cargo.toml",
            "[workspace.dependencies]\nnix = \"1\"\nnixon = \"1\"\n",
        );
        let member = Source::sample("a/Cargo.toml", "nix.workspace = true\n");
        let check = |reasons| {
            let problems = check_dependencies(&root, &[&member], reasons);
            let text = |p: Problem| format!("{}: {}", p.line, p.wrong);
            problems.unwrap().into_iter().map(text).collect::<Vec<_>>()
        };
        let unused = "3: no crate depends on nixon";
        assert_eq!(check("`nix`, `nixon`"), [unused]);
        assert_eq!(
            check("`nixon`"),
            ["2: ARCHITECTURE.md does not say why nix is here", unused]
        );
    }
}
