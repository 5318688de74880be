//! Rules for manifests: members inherit the workspace's settings, and every
//! dependency is used and explained.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::{Problem, Source};

/// Members that aren't models.
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
            "declare the model, see the fields in CONTRIBUTING.md",
        ));
    }
    problems.extend(own(source, &manifest));
    Ok(problems)
}

fn parse(source: &Source) -> Result<Table> {
    source.text.parse().with_context(|| source.path.clone())
}

/// Finds settings that a member should inherit from the workspace: fields of
/// the package, lints, and versions of dependencies.
fn own(source: &Source, manifest: &Table) -> Vec<Problem> {
    let package = manifest.get("package");
    let field = |name| (name, package.and_then(|package| package.get(name)));
    let mut shared: Vec<_> = INHERITED.map(field).to_vec();
    shared.push(("lints", manifest.get("lints")));
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let table = manifest.get(kind).and_then(Value::as_table);
        let dependencies = table.into_iter().flatten();
        shared.extend(dependencies.map(|(name, v)| (name.as_str(), Some(v))));
    }
    let problem = |(name, _)| {
        Problem::new(
            source,
            source.line_of(name),
            format!("{name} is not inherited from the workspace"),
            format!("write {name}.workspace = true"),
        )
    };
    let own = shared.into_iter().filter(|(_, v)| !v.is_some_and(inherits));
    own.map(problem).collect()
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// Checks that every dependency that isn't a member is used by a member's
/// manifest, and that `reasons` names it as code.
pub fn check_dependencies(
    root: &Source,
    sources: &[Source],
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
        let line = root.line_of(&format!("{name} "));
        let used = |member: &Source| {
            let starts = |line: &str| {
                let rest = line.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.starts_with([' ', '.', '=']))
            };
            member.path.ends_with("/Cargo.toml")
                && member.text.lines().any(starts)
        };
        if !sources.iter().any(used) {
            let wrong = format!("no crate depends on {name}");
            problems.push(Problem::new(root, line, wrong, "remove it"));
        }
        if !reasons.contains(&format!("`{name}`")) {
            problems.push(Problem::new(
                root,
                line,
                format!("ARCHITECTURE.md gives no reason for {name}"),
                "add it to the table of dependencies",
            ));
        }
    }
    Ok(problems)
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
    fn settings_that_are_not_inherited_are_found() {
        assert_eq!(wrongs("xtask/Cargo.toml", GOOD), [""; 0]);
        let rows = [
            (
                "[lints]\nworkspace = true\n",
                "",
                "1: lints is not inherited from the workspace",
            ),
            (
                "edition.workspace = true",
                "edition = \"2021\"",
                "5: edition is not inherited from the workspace",
            ),
            (
                "anyhow.workspace = true",
                "anyhow = \"1\"",
                "11: anyhow is not inherited from the workspace",
            ),
            (
                "[lints]",
                "[dev-dependencies.divan]\nversion = \"1\"\n[lints]",
                "14: divan is not inherited from the workspace",
            ),
        ];
        for (from, to, expected) in rows {
            let text = GOOD.replace(from, to);
            assert_eq!(wrongs("xtask/Cargo.toml", &text), [expected]);
        }
    }

    #[test]
    fn a_member_declares_a_model() {
        let expected = "1: the crate has no [package.metadata.model]";
        assert_eq!(wrongs("blocking/Cargo.toml", GOOD), [expected]);
    }

    #[test]
    fn dependencies_have_users_and_reasons() {
        let root = Source::sample(
            "Cargo.toml",
            "[workspace.dependencies]\nnix = \"1\"\nnixon = \"1\"\n",
        );
        let members =
            [Source::sample("a/Cargo.toml", "nix.workspace = true\n")];
        let check = |reasons| {
            let problems = check_dependencies(&root, &members, reasons);
            let text = |p: Problem| format!("{}: {}", p.line, p.wrong);
            problems.unwrap().into_iter().map(text).collect::<Vec<_>>()
        };
        let unused = "3: no crate depends on nixon";
        assert_eq!(check("`nix`, `nixon`"), [unused]);
        assert_eq!(
            check("`nixon`"),
            ["2: ARCHITECTURE.md gives no reason for nix", unused]
        );
    }
}
