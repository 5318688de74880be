//! The registry of models: every member of the workspace that has a
//! `[package.metadata.model]` table, in the order of the member list.

use std::fmt::{self, Write};
use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use toml::Table;

use crate::promises::Promises;

/// The family that a model belongs to, in reading order.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    Blocking,
    Nonblocking,
    Multiplexing,
    SignalDriven,
    Asynchronous,
    /// Blocking or readiness-based I/O scaled over processes, threads or tasks.
    Scaling,
}

/// The number of clients that a model serves at the same time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    One,
    Many,
}

/// A kind of socket a model serves.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// One way to start a model. The first is the default.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Empty if the model has no variants.
    pub name: String,
    /// The command-line arguments that select it.
    pub args: Vec<String>,
    /// The transports that it serves, if not all of the model's.
    pub transports: Option<Vec<Transport>>,
    /// The reason why it doesn't serve the others.
    pub why: Option<String>,
    /// The most clients that its minimal program serves at a time, if it has
    /// fewer workers than a comparison has clients.
    pub minimal_clients: Option<usize>,
    pub promises: Promises,
}

/// The table `[package.metadata.model]` of a Cargo.toml.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    family: Family,
    clients: Clients,
    transports: Vec<Transport>,
    /// See [`Promises`].
    #[serde(default)]
    promises: Table,
    #[serde(default)]
    variants: Vec<VariantDeclaration>,
    /// See [`Model::idle_flags`].
    #[serde(default)]
    idle_flags: Vec<String>,
    /// See [`Model::pool`].
    pool: Option<String>,
    /// Items that are token for token identical in all crates that list them.
    #[serde(default)]
    same: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantDeclaration {
    name: String,
    #[serde(default)]
    args: Vec<String>,
    transports: Option<Vec<Transport>>,
    why: Option<String>,
    /// See [`Variant::minimal_clients`].
    minimal_clients: Option<usize>,
    /// Promises added to the model's, or overriding them.
    #[serde(default)]
    promises: Table,
}

/// A member of the workspace that is a server.
#[derive(Clone, Debug)]
pub struct Model {
    /// Folder, crate and binary name.
    pub name: String,
    pub family: Family,
    /// The package's description: one phrase.
    pub summary: String,
    pub clients: Clients,
    pub transports: Vec<Transport>,
    /// Never empty: a model without variants has one with an empty name.
    pub variants: Vec<Variant>,
    /// Flags that make a busy-polling model sleep while its clients are idle.
    /// Empty for all other models.
    pub idle_flags: Vec<String>,
    /// The flag that sets the number of workers, if each client occupies one of
    /// a fixed pool.
    pub pool: Option<String>,
    pub same: Vec<String>,
    /// The crate's folder.
    pub folder: Utf8PathBuf,
}

/// The workspace that this program was built in.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub root: Utf8PathBuf,
    /// Cargo's target folder.
    pub target: Utf8PathBuf,
    /// Folders of all members, models or not, in reading order.
    pub members: Vec<Utf8PathBuf>,
    /// In reading order.
    pub models: Vec<Model>,
}

/// The command line names something unknown: a model, a variant, a claim, or a
/// transport that the model doesn't serve.
#[derive(Debug)]
pub struct NotFound(pub String);

impl Workspace {
    /// Reads the manifests. The error lists every fault of every declaration.
    pub fn load() -> Result<Self> {
        let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).context("the workspace's folder")?;
        let manifest = read(&root.join("Cargo.toml"))?;
        let members = member_list(&manifest)?;
        let members = members.iter().map(|member| root.join(member));
        let members: Vec<_> = members.collect();
        let models = models(&members)?;
        let (root, target) = (root.to_owned(), target()?);
        Ok(Self { root, target, members, models })
    }

    /// Returns all variants of all models, in reading order.
    pub fn variants(&self) -> impl Iterator<Item = (&Model, &Variant)> {
        self.models.iter().flat_map(|model| {
            model.variants.iter().map(move |variant| (model, variant))
        })
    }

    /// Finds the model called `name`. Fails with [`NotFound`].
    pub fn model(&self, name: &str) -> Result<&Model> {
        let mut models = self.models.iter();
        models
            .find(|model| model.name == name)
            .ok_or_else(|| self.unknown(name).into())
    }

    /// Finds the variant called `model/variant`; a model's name alone means its
    /// first variant. Fails with [`NotFound`].
    pub fn variant(&self, title: &str) -> Result<(&Model, &Variant)> {
        let mut variants = self.variants();
        variants
            .find(|(model, variant)| model.is_meant(variant, title))
            .ok_or_else(|| self.unknown(title).into())
    }

    /// Selects variants by name, in reading order. A model's name alone means
    /// all its variants, and an empty list means everything. Fails with
    /// [`NotFound`].
    pub fn select(&self, names: &[String]) -> Result<Vec<(&Model, &Variant)>> {
        for name in names {
            self.variant(name)?;
        }
        let chosen = |(model, variant): &(&Model, &Variant)| {
            names.is_empty()
                || names.iter().any(|name| model.is_meant(variant, name))
        };
        Ok(self.variants().filter(chosen).collect())
    }

    /// Finds the variant called `title`. Fails with [`NotFound`] if it doesn't
    /// exist or doesn't serve the transport.
    pub fn serving(
        &self,
        title: &str,
        transport: Transport,
    ) -> Result<(&Model, &Variant)> {
        let (model, variant) = self.variant(title)?;
        match model.unserved(variant, transport) {
            Some(why) => Err(NotFound(why).into()),
            None => Ok((model, variant)),
        }
    }

    fn unknown(&self, name: &str) -> NotFound {
        let mut text = format!("no model is called {name}\n\nThe models:");
        let titles = || self.variants().map(|(m, v)| (m.title(v), &m.summary));
        let width = titles().map(|(title, _)| title.len()).max().unwrap_or(0);
        for (title, summary) in titles() {
            let _ = write!(text, "\n  {title:width$}  {summary}");
        }
        NotFound(text)
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

impl Model {
    /// Returns the reason why a variant doesn't serve a transport; None if it
    /// does.
    fn unserved(
        &self,
        variant: &Variant,
        transport: Transport,
    ) -> Option<String> {
        if self.transports_of(variant).contains(&transport) {
            return None;
        }
        let why = variant.why.as_deref().unwrap_or("no variant of it does");
        let title = self.title(variant);
        Some(format!("{title} doesn't serve {transport}: {why}"))
    }

    /// Returns the transports that a variant serves.
    pub fn transports_of<'a>(
        &'a self,
        variant: &'a Variant,
    ) -> &'a [Transport] {
        variant.transports.as_ref().unwrap_or(&self.transports)
    }

    /// Returns the flags with which it serves this many clients at a time, if
    /// that requires any.
    pub fn pool_flags(&self, clients: usize) -> Vec<String> {
        let flag = self.pool.iter().cloned();
        flag.flat_map(|flag| [flag, clients.to_string()]).collect()
    }

    /// Whether `name` is the variant's title or the model's name.
    fn is_meant(&self, variant: &Variant, name: &str) -> bool {
        self.name == name || self.title(variant) == name
    }

    /// Returns `model`, or `model/variant` for a model with several variants.
    pub fn title(&self, variant: &Variant) -> String {
        match variant.name.as_str() {
            "" => self.name.clone(),
            variant => format!("{}/{variant}", self.name),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking",
            Self::Nonblocking => "nonblocking",
            Self::Multiplexing => "multiplexing",
            Self::SignalDriven => "signal-driven",
            Self::Asynchronous => "asynchronous",
            Self::Scaling => "scaling",
        })
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

/// Joins the transports' names with spaces.
pub fn names(transports: &[Transport]) -> String {
    transports.iter().map(Transport::to_string).collect::<Vec<_>>().join(" ")
}

/// Returns the folders that the root manifest lists as members, as written.
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

fn read(path: &Utf8Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// Finds the target folder that this program was built into, by the tag that
/// cargo puts there.
fn target() -> Result<Utf8PathBuf> {
    let program = std::env::current_exe().context("this program's path")?;
    let program = Utf8PathBuf::try_from(program)?;
    let mut folders = program.ancestors();
    let target = folders.find(|it| it.join("CACHEDIR.TAG").exists());
    Ok(target.context("this program is not in cargo's target folder")?.into())
}

/// The parts of a member's manifest that are used here.
#[derive(Debug, Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    metadata: Table,
}

/// Reads the members that declare a model. The error lists every fault of every
/// declaration, so that one run shows them all.
fn models(members: &[Utf8PathBuf]) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    let mut faults = Vec::new();
    for folder in members {
        let path = folder.join("Cargo.toml");
        let Manifest { mut package } =
            toml::from_str(&read(&path)?).with_context(|| path.to_string())?;
        let Some(declared) = package.metadata.remove("model") else { continue };
        let name = package.name.clone();
        if folder.file_name() != Some(name.as_str()) {
            faults.push(format!(
                "{name}: its folder is {folder}; folder, crate and binary \
                 must have the same name"
            ));
        }
        let declared = declared.try_into().map_err(Into::into);
        match declared.and_then(|it| model(package, folder.clone(), it)) {
            Ok(model) => models.push(model),
            Err(fault) => faults.push(format!("{name}: {fault:#}")),
        }
    }
    ensure!(
        faults.is_empty(),
        "[package.metadata.model] is invalid:\n  {}",
        faults.join("\n  ")
    );
    Ok(models)
}

/// Checks the conditions that the types can't express, and adds the model's
/// promises to each variant.
fn model(
    package: Package,
    folder: Utf8PathBuf,
    declared: Declaration,
) -> Result<Model> {
    let faults = faults(&package.description, &declared);
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    let Declaration { family, clients, transports, .. } = declared;
    let mut ways = declared.variants;
    if ways.is_empty() {
        ways.push(VariantDeclaration::default());
    }
    let variant = |way: VariantDeclaration| -> Result<Variant> {
        let mut promises = declared.promises.clone();
        promises.extend(way.promises);
        let promises =
            parse_promises(promises, clients).with_context(|| {
                match way.name.as_str() {
                    "" => "promises".to_owned(),
                    name => format!("variant {name:?}, promises"),
                }
            })?;
        let VariantDeclaration {
            name,
            args,
            transports,
            why,
            minimal_clients,
            ..
        } = way;
        Ok(Variant { name, args, transports, why, minimal_clients, promises })
    };
    let variants = ways.into_iter().map(variant).collect::<Result<_>>()?;
    let Declaration { idle_flags, pool, same, .. } = declared;
    Ok(Model {
        name: package.name,
        family,
        summary: package.description,
        clients,
        transports,
        variants,
        idle_flags,
        pool,
        same,
        folder,
    })
}

fn parse_promises(promises: Table, clients: Clients) -> Result<Promises> {
    let promises: Promises = promises
        .try_into()
        .map_err(|error: toml::de::Error| anyhow!("{}", error.message()))?;
    promises.check(clients == Clients::Many)?;
    Ok(promises)
}

fn faults(description: &str, declared: &Declaration) -> Vec<String> {
    let mut faults = Vec::new();
    if description.trim().is_empty() || description.ends_with('.') {
        let phrase = "the package's description must be one phrase without a \
                      full stop";
        faults.push(phrase.to_owned());
    }
    if declared.transports.is_empty() {
        faults.push("transports is empty".to_owned());
    }
    if let Some(twice) = repeated(&declared.same) {
        faults.push(format!("`same` lists {twice} twice"));
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
    variant: &VariantDeclaration,
    transports: &[Transport],
) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if variant.name.is_empty()
        || !variant.name.chars().all(|c| plain(c) || c == '-')
    {
        faults.push("needs a name made of a-z, 0-9 and -");
    }
    let why = variant.why.as_deref().unwrap_or("").trim();
    match &variant.transports {
        None if why.is_empty() => {}
        None => faults.push("has a `why`, but no `transports`"),
        Some(_) if why.is_empty() => {
            faults.push("narrows the transports without a `why`");
        }
        Some(narrow) if narrow.is_empty() => {
            faults.push("serves no transport");
        }
        Some(narrow) if !narrow.iter().all(|t| transports.contains(t)) => {
            faults.push("serves a transport that the model doesn't");
        }
        Some(narrow) if narrow.len() >= transports.len() => {
            faults.push("repeats the model's `transports`: leave them out");
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
    use crate::promises::Reports;

    const GOOD: &str = r#"
        family = "multiplexing"
        clients = "many"
        transports = ["tcp", "udp"]
        variants = [
            { name = "level", args = ["--trigger", "level"] },
            { name = "edge", transports = ["tcp"], why = "no datagrams" },
        ]
        same = ["Connection::on_readable"]
        [promises]
        answers = "one-thread"
        waits_in = "epoll_wait"
        reports = "level"
        idle_kib = 0.5
        ceiling = { clients = 4089, ends = "EMFILE" }
        near_bare_loop = true
    "#;

    fn parse(text: &str) -> Result<Model> {
        let package = Package {
            name: "name".to_owned(),
            description: "One thread".to_owned(),
            metadata: Table::new(),
        };
        model(package, "name".into(), toml::from_str(text)?)
    }

    /// Returns the error of the declaration with `from` replaced.
    fn fault(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from:?} is not in the sample");
        let result = parse(&GOOD.replace(from, to));
        format!("{:#}", result.expect_err("should not be valid"))
    }

    #[test]
    fn a_variant_promises_what_the_model_does_or_says_otherwise() {
        let edge = "name = \"edge\", ";
        let other = format!("{edge}promises = {{ reports = \"edge\" }}, ");
        let model = parse(&GOOD.replace(edge, &other)).unwrap();
        let reports = model.variants.iter().map(|it| it.promises.reports);
        let expected = [Reports::Level, Reports::Edge].map(Some);
        assert_eq!(reports.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_promise_that_is_left_out_is_a_fault() {
        let lines = GOOD.split("[promises]\n").nth(1).unwrap().lines();
        for line in lines.filter(|line| line.contains(" = ")) {
            let fault = fault(line, "");
            let key = line.split('=').next().unwrap().trim();
            assert!(fault.contains(key), "{key}: {fault}");
            assert!(fault.starts_with("variant \"level\", promises"));
        }
    }

    #[test]
    fn faults_are_named() {
        let rows = [
            ("\"multiplexing\"", "\"polling\"", "unknown variant `polling`"),
            ("\"one-thread\"", "\"me\"", "expected one of `one-thread`"),
            ("\"epoll_wait\"", "\"receive\"", "`reports` is for calls"),
            ("\"many\"", "\"one\"", "for models with `clients"),
            ("near_bare_loop", "near_loop", "unknown field `near_loop`"),
            ("near_bare", "uneven = \"why\"\nnear_bare", "`uneven` is for"),
            ("\"many\"", "\"two\"", "unknown variant `two`"),
            ("\"edge\"", "\"level\"", "two variants are called level"),
            ("\"edge\"", "\"Edge mode\"", "needs a name made of a-z"),
            (", why = \"no datagrams\"", "", "without a `why`"),
            ("transports = [\"tcp\"], ", "", "but no `transports`"),
            ("[\"tcp\"],", "[],", "serves no transport"),
            ("[\"tcp\"],", "[\"tcp\", \"udp\"],", "leave them out"),
            ("[\"tcp\", \"udp\"]", "[\"udp\"]", "that the model doesn't"),
            ("[\"tcp\", \"udp\"]", "[]", "transports is empty"),
            ("same", "equal", "unknown field `equal`"),
            ("[\"Conn", "[\"Connection::on_readable\", \"Conn", "twice"),
        ];
        for (from, to, expected) in rows {
            let fault = fault(from, to);
            assert!(fault.contains(expected), "{from} -> {to}: {fault}");
        }
    }

    #[test]
    fn names_choose_variants_in_reading_order() {
        let workspace = Workspace::load().unwrap();
        let chosen = |names: &[&str]| -> Result<Vec<String>> {
            let names: Vec<_> = names.iter().map(|it| (*it).into()).collect();
            let chosen = workspace.select(&names)?.into_iter();
            Ok(chosen.map(|(model, variant)| model.title(variant)).collect())
        };
        assert_eq!(chosen(&[]).unwrap()[0], "blocking");
        assert_eq!(
            chosen(&["multiplexing-epoll/edge", "blocking"]).unwrap(),
            ["blocking", "multiplexing-epoll/edge"]
        );
        assert_eq!(chosen(&["multiplexing-epoll"]).unwrap().len(), 3);
        for unknown in ["epoll", "multiplexing-epoll/egde", "blocking/"] {
            let error = chosen(&[unknown]).unwrap_err();
            assert!(error.is::<NotFound>(), "{error}");
            let error = error.to_string();
            assert!(error.contains(&format!("called {unknown}\n")), "{error}");
            assert!(error.contains("\n  multiplexing-epoll/edge "), "{error}");
        }
    }

    #[test]
    fn this_workspace_loads() {
        let workspace = Workspace::load().unwrap();
        let first = &workspace.members[0];
        assert_eq!(first.file_name(), Some("common"));
    }

    #[test]
    fn a_transport_that_is_not_served_is_not_found() {
        let workspace = Workspace::load().unwrap();
        let title = "async-io/posix-aio";
        workspace.serving(title, Transport::Tcp).unwrap();
        let error = workspace.serving(title, Transport::Udp).unwrap_err();
        assert!(error.is::<NotFound>(), "{error}");
        assert!(error.to_string().contains("aio_read(3)"), "{error}");
    }
}
