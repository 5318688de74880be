//! The registry of models is the workspace itself: every member with a
//! `[package.metadata.model]` table, in the order of the member list.

use std::fmt::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::camino::{Utf8Path, Utf8PathBuf};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde::{Deserialize, Serialize};

/// What a model can be filed under, in reading order.
pub const FAMILIES: [&str; 6] = [
    "blocking",
    "nonblocking",
    "multiplexing",
    "signal-driven",
    "asynchronous",
    "scaling",
];

/// How many clients a model serves at a time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    One,
    Many,
}

/// How many threads, of one process or of several, share a model's work.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Threads {
    #[default]
    One,
    Many,
}

/// A kind of socket a model serves.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// One way to start a model. The first is the default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Empty where a model has one way only.
    pub name: String,
    /// What chooses it on the command line.
    #[serde(default)]
    pub args: Vec<String>,
    /// Narrower than the model's, if given; then `why` says why.
    pub transports: Option<Vec<Transport>>,
    pub why: Option<String>,
    /// Other than the model's, if given.
    pub threads: Option<Threads>,
}

/// What a model's Cargo.toml says of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    family: String,
    summary: String,
    clients: Clients,
    transports: Vec<Transport>,
    #[serde(default)]
    threads: Threads,
    #[serde(default)]
    variants: Vec<Variant>,
    /// What makes it rest while nobody says anything, if it is busy then.
    #[serde(default)]
    rests_with: Vec<String>,
    /// Items kept token for token as in other crates that name them too.
    #[serde(default)]
    same: Vec<String>,
}

/// A member of the workspace that is a server.
#[derive(Clone, Debug)]
pub struct Model {
    /// Folder, crate and binary name.
    pub name: String,
    pub family: String,
    pub summary: String,
    pub clients: Clients,
    pub transports: Vec<Transport>,
    pub threads: Threads,
    /// Never empty: a model without variants has one with an empty name.
    pub variants: Vec<Variant>,
    /// Flags with which it rests while nobody says anything. Empty for those
    /// that rest anyway, which is all but those that never wait.
    pub rests_with: Vec<String>,
    pub same: Vec<String>,
    /// The crate's folder.
    pub folder: Utf8PathBuf,
}

/// The workspace as cargo sees it.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub root: Utf8PathBuf,
    pub target: Utf8PathBuf,
    /// Folders of all members, models or not, in reading order.
    pub members: Vec<Utf8PathBuf>,
    /// In reading order.
    pub models: Vec<Model>,
}

impl Workspace {
    /// Asks `cargo metadata`. Fails where cargo does, and on declarations that
    /// do not parse or contradict themselves, naming each crate and fault.
    pub fn load() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cargo metadata failed")?;
        let manifest = metadata.workspace_root.join("Cargo.toml");
        let manifest = std::fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {manifest}"))?;
        let packages = reading_order(&metadata, &member_list(&manifest)?);
        let members = packages.iter().map(|p| folder(p).to_owned()).collect();
        let models = models(&packages)?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            members,
            models,
        })
    }

    /// The model called `name`, or an error that lists them all.
    pub fn model(&self, name: &str) -> Result<&Model> {
        if let Some(model) = self.models.iter().find(|m| m.name == name) {
            return Ok(model);
        }
        let names: Vec<_> =
            self.models.iter().map(|m| m.name.as_str()).collect();
        bail!("no model is called {name}; there are: {}", names.join(", "))
    }

    /// The model and variant that `model` or `model/variant` names; a model
    /// alone means its first variant.
    pub fn variant(&self, title: &str) -> Option<(&Model, &Variant)> {
        let (name, variant) = title.split_once('/').unwrap_or((title, ""));
        let model = self.models.iter().find(|m| m.name == name)?;
        let named = model.variants.iter().find(|v| v.name == variant);
        let first = variant.is_empty().then_some(&model.variants[0]);
        Some((model, named.or(first)?))
    }
}

impl Model {
    /// Why a variant does not serve a transport; None where it does.
    pub fn unserved(
        &self,
        variant: &Variant,
        transport: Transport,
    ) -> Option<String> {
        if self.transports_of(variant).contains(&transport) {
            return None;
        }
        let why = variant.why.as_deref().unwrap_or("its model does not");
        Some(format!("{} serves no {transport}: {why}", self.title(variant)))
    }

    /// What `variant` serves: the model's transports unless it narrows them.
    pub fn transports_of<'a>(
        &'a self,
        variant: &'a Variant,
    ) -> &'a [Transport] {
        variant.transports.as_ref().unwrap_or(&self.transports)
    }

    /// How many threads share the work of `variant`.
    pub fn threads_of(&self, variant: &Variant) -> Threads {
        variant.threads.unwrap_or(self.threads)
    }

    /// `model`, or `model/variant` where there are several.
    pub fn title(&self, variant: &Variant) -> String {
        match variant.name.as_str() {
            "" => self.name.clone(),
            variant => format!("{}/{variant}", self.name),
        }
    }
}

impl Variant {
    /// The only way to start a model that declares no variants.
    pub fn only() -> Self {
        Self {
            name: String::new(),
            args: Vec::new(),
            transports: None,
            why: None,
            threads: None,
        }
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::Many => "many",
        })
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The transports' names with a space between.
pub fn names(transports: &[Transport]) -> String {
    transports.iter().map(Transport::to_string).collect::<Vec<_>>().join(" ")
}

/// Says that there is no such model, and which there are; how a command ends
/// then.
pub fn unknown(workspace: &Workspace, title: &str) -> ExitCode {
    eprintln!("error: no model is called {title}\n");
    eprint!("{}", catalogue(workspace));
    ExitCode::from(2)
}

/// What can be named on a command line, a line each, without starting
/// anything.
pub fn catalogue(workspace: &Workspace) -> String {
    let titles = workspace.models.iter().flat_map(|model| {
        let title = |variant| (model.title(variant), &model.summary);
        model.variants.iter().map(title)
    });
    let titles: Vec<_> = titles.collect();
    let width = titles.iter().map(|(title, _)| title.len()).max();
    let width = width.unwrap_or(0);
    let mut text = "The models:\n".to_owned();
    for (title, summary) in titles {
        let _ = writeln!(text, "  {title:width$}  {summary}");
    }
    text
}

/// The folders that the root manifest lists as members, as written.
pub fn member_list(manifest: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Manifest {
        workspace: List,
    }
    #[derive(Deserialize)]
    struct List {
        members: Vec<String>,
    }
    let manifest: Manifest =
        toml::from_str(manifest).context("the root Cargo.toml")?;
    Ok(manifest.workspace.members)
}

/// Members in the order of the manifest's list. Cargo keeps that order with
/// one exception, so the list decides: a member that another depends on by
/// path is reported right behind it.
fn reading_order<'a>(
    metadata: &'a Metadata,
    list: &[String],
) -> Vec<&'a Package> {
    let place = |package: &Package| {
        let folder = folder(package);
        let folder =
            folder.strip_prefix(&metadata.workspace_root).unwrap_or(folder);
        list.iter().position(|member| member.as_str() == folder)
    };
    let mut packages: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .collect();
    packages.sort_by_key(|package| place(package).unwrap_or(usize::MAX));
    packages
}

fn folder(package: &Package) -> &Utf8Path {
    package.manifest_path.parent().unwrap_or(&package.manifest_path)
}

/// The packages that declare a model. Every fault of every declaration is in
/// the error, so that one run shows them all.
fn models(packages: &[&Package]) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    let mut faults = Vec::new();
    for package in packages {
        let Some(declared) = package.metadata.get("model") else { continue };
        let folder = folder(package);
        match declaration(declared) {
            Ok(declared) => models.push(model(package, declared)),
            Err(fault) => faults.push(format!("{}: {fault:#}", package.name)),
        }
        if folder.file_name() != Some(package.name.as_str()) {
            faults.push(format!(
                "{}: its folder is {folder}; folder, crate and binary have one \
                 name",
                package.name
            ));
        }
    }
    ensure!(
        faults.is_empty(),
        "[package.metadata.model] is not as it should be:\n  {}",
        faults.join("\n  ")
    );
    Ok(models)
}

fn model(package: &Package, declared: Declaration) -> Model {
    let mut variants = declared.variants;
    if variants.is_empty() {
        variants.push(Variant::only());
    }
    Model {
        name: package.name.to_string(),
        family: declared.family,
        summary: declared.summary,
        clients: declared.clients,
        transports: declared.transports,
        threads: declared.threads,
        variants,
        rests_with: declared.rests_with,
        same: declared.same,
        folder: folder(package).to_owned(),
    }
}

/// Parses one declaration and checks what a type can't.
fn declaration(declared: &serde_json::Value) -> Result<Declaration> {
    let declared: Declaration = serde_json::from_value(declared.clone())?;
    let faults = faults(&declared);
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(declared)
}

fn faults(declared: &Declaration) -> Vec<String> {
    let mut faults = Vec::new();
    if !FAMILIES.contains(&declared.family.as_str()) {
        faults.push(format!(
            "family {:?} is none of {}",
            declared.family,
            FAMILIES.join(", ")
        ));
    }
    let summary = &declared.summary;
    if summary.trim().is_empty() {
        faults.push("summary is empty".to_owned());
    }
    if summary.contains(['\n', '|']) || summary.ends_with('.') {
        faults.push(
            "summary is one phrase: no line break, no |, no full stop"
                .to_owned(),
        );
    }
    if declared.transports.is_empty() {
        faults.push("transports is empty".to_owned());
    }
    if let Some(twice) = repeated(&declared.same) {
        faults.push(format!("same names {twice} twice"));
    }
    let names: Vec<_> =
        declared.variants.iter().map(|v| v.name.clone()).collect();
    if let Some(twice) = repeated(&names) {
        faults.push(format!("two variants are called {twice}"));
    }
    for variant in &declared.variants {
        let faulty = variant_faults(variant, &declared.transports);
        faults.extend(
            faulty.iter().map(|f| format!("variant {:?} {f}", variant.name)),
        );
    }
    faults
}

fn variant_faults(
    variant: &Variant,
    transports: &[Transport],
) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if variant.name.is_empty()
        || !variant.name.chars().all(|c| plain(c) || c == '-')
    {
        faults.push("needs a name of a-z, 0-9 and -");
    }
    let why = variant.why.as_deref().unwrap_or("").trim();
    match &variant.transports {
        None if why.is_empty() => {}
        None => faults.push("gives a why but narrows no transport"),
        Some(_) if why.is_empty() => {
            faults.push("narrows the transports without a why");
        }
        Some(narrow) if narrow.is_empty() => {
            faults.push("serves no transport");
        }
        Some(narrow) if !narrow.iter().all(|t| transports.contains(t)) => {
            faults.push("serves a transport that the model does not");
        }
        Some(narrow) if narrow.len() >= transports.len() => {
            faults.push("repeats the model's transports: leave them out");
        }
        Some(_) => {}
    }
    faults
}

fn repeated(names: &[String]) -> Option<&String> {
    names
        .iter()
        .enumerate()
        .find_map(|(at, name)| names[..at].contains(name).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        family = "multiplexing"
        summary = "one thread waits for many sockets with epoll(7)"
        clients = "many"
        transports = ["tcp", "udp"]
        variants = [
            { name = "level", args = ["--trigger", "level"] },
            { name = "edge", transports = ["tcp"], why = "no datagrams" },
        ]
        same = ["Connection::on_readable"]
    "#;

    fn parse(text: &str) -> Result<Declaration> {
        let table: toml::Table = toml::from_str(text)?;
        declaration(&serde_json::to_value(table)?)
    }

    /// What the declaration's error says when `from` is replaced.
    fn fault(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from:?} is not in the sample");
        let result = parse(&GOOD.replace(from, to));
        format!("{:#}", result.expect_err("should not be valid"))
    }

    #[test]
    fn a_good_declaration_passes() {
        let declared = parse(GOOD).unwrap();
        assert_eq!(declared.variants.len(), 2);
        assert_eq!(declared.clients, Clients::Many);
    }

    #[test]
    fn faults_are_named() {
        let rows = [
            ("\"multiplexing\"", "\"polling\"", "family \"polling\" is none"),
            ("one thread waits for many sockets", "\\n", "line break"),
            ("sockets with epoll(7)", "sockets.", "no full stop"),
            ("\"many\"", "\"two\"", "unknown variant `two`"),
            ("\"edge\"", "\"level\"", "two variants are called level"),
            ("\"edge\"", "\"Edge mode\"", "needs a name of a-z"),
            (", why = \"no datagrams\"", "", "without a why"),
            ("transports = [\"tcp\"], ", "", "narrows no transport"),
            ("[\"tcp\"],", "[],", "serves no transport"),
            ("[\"tcp\"],", "[\"tcp\", \"udp\"],", "leave them out"),
            ("[\"tcp\", \"udp\"]", "[\"udp\"]", "that the model does not"),
            ("[\"tcp\", \"udp\"]", "[]", "transports is empty"),
            ("same", "equal", "unknown field `equal`"),
        ];
        for (from, to, expected) in rows {
            let fault = fault(from, to);
            assert!(fault.contains(expected), "{from} -> {to}: {fault}");
        }
    }

    #[test]
    fn an_empty_summary_is_a_fault() {
        let text = "one thread waits for many sockets with epoll(7)";
        assert_eq!(fault(text, " "), "summary is empty");
    }

    #[test]
    fn a_name_in_same_counts_once() {
        let fault = fault(
            "\"Connection::on_readable\"",
            "\"main\", \"serve\", \"main\"",
        );
        assert_eq!(fault, "same names main twice");
    }

    #[test]
    fn the_member_list_keeps_its_order() {
        let manifest = r#"
            [workspace]
            members = [
                "common", # first
                "multiplexing-epoll",
                "blocking",
            ]
        "#;
        let expected = ["common", "multiplexing-epoll", "blocking"];
        assert_eq!(member_list(manifest).unwrap(), expected);
    }

    #[test]
    fn this_workspace_loads() {
        let workspace = Workspace::load().unwrap();
        let first = &workspace.members[0];
        assert_eq!(first.file_name(), Some("common"));
    }
}
