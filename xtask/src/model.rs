//! The registry of models is the workspace itself: every member with a
//! `[package.metadata.model]` table, in the order of the member list.

use anyhow::{Context, Result, bail};
use cargo_metadata::camino::Utf8PathBuf;
use cargo_metadata::{Metadata, MetadataCommand};
use serde::Deserialize;

/// How many clients a model serves at a time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    One,
    Many,
}

/// A kind of socket a model serves.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
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
    variants: Vec<Variant>,
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
    /// Never empty: a model without variants has one with an empty name.
    pub variants: Vec<Variant>,
    pub same: Vec<String>,
    /// The crate's folder.
    pub folder: Utf8PathBuf,
}

/// The workspace as cargo sees it.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub root: Utf8PathBuf,
    pub target: Utf8PathBuf,
    /// In reading order.
    pub models: Vec<Model>,
}

impl Workspace {
    /// Asks `cargo metadata`. Fails where cargo does, and on a declaration
    /// that does not parse, naming the crate.
    pub fn load() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cargo metadata failed")?;
        let models = models(&metadata)?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
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
}

impl Model {
    /// What `variant` serves: the model's transports unless it narrows them.
    pub fn transports_of<'a>(
        &'a self,
        variant: &'a Variant,
    ) -> &'a [Transport] {
        variant.transports.as_ref().unwrap_or(&self.transports)
    }

    /// `model`, or `model/variant` where there are several.
    pub fn title(&self, variant: &Variant) -> String {
        match variant.name.as_str() {
            "" => self.name.clone(),
            variant => format!("{}/{variant}", self.name),
        }
    }
}

/// Members in the order of the manifest's list, which `default_members` and
/// `members` of `cargo metadata` keep and `packages` does not.
fn models(metadata: &Metadata) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    for package in reading_order(metadata)? {
        let Some(declared) = package.metadata.get("model") else { continue };
        let declared: Declaration = serde_json::from_value(declared.clone())
            .with_context(|| {
                format!("[package.metadata.model] in {}", package.manifest_path)
            })?;
        let mut variants = declared.variants;
        if variants.is_empty() {
            variants.push(Variant {
                name: String::new(),
                args: Vec::new(),
                transports: None,
                why: None,
            });
        }
        models.push(Model {
            name: package.name.to_string(),
            family: declared.family,
            summary: declared.summary,
            clients: declared.clients,
            transports: declared.transports,
            variants,
            same: declared.same,
            folder: package
                .manifest_path
                .parent()
                .context("a manifest without a folder")?
                .to_owned(),
        });
    }
    Ok(models)
}

fn reading_order(metadata: &Metadata) -> Result<Vec<&cargo_metadata::Package>> {
    metadata
        .workspace_members
        .iter()
        .map(|id| {
            metadata
                .packages
                .iter()
                .find(|package| package.id == *id)
                .with_context(|| format!("cargo metadata has no package {id}"))
        })
        .collect()
}
