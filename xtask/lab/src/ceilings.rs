//! How many clients each model holds where descriptors are scarce, as the
//! suite has found it out: `ceilings.toml` beside this crate's manifest.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::{Context, Result};
use cargo_metadata::camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::model::Workspace;

/// The hard limit of descriptors under which clients were counted.
pub const DESCRIPTORS: usize = 4_096;

/// Where one model, in one variant, ends.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// How many clients it serves at a time.
    pub clients: usize,
    /// What refuses the next one: an errno, or a limit without one.
    pub ends: String,
    /// Which of the machine's limits that is, if it is one; then all
    /// `clients` that came were served, and how many more may come is the
    /// machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Flags for a number that is the same on every machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, ends, machine, .. } = self;
        let more = if machine.is_some() { "+" } else { "" };
        write!(f, "{clients}{more}, {ends}")
    }
}

/// Those of all variants, by `model/variant`.
#[derive(Clone, Debug, Default)]
pub struct Ceilings {
    of: BTreeMap<String, Ceiling>,
}

impl Ceilings {
    /// Reads the file; without one there are none.
    pub fn load(workspace: &Workspace) -> Result<Self> {
        let path = path(workspace);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {path}"))?;
        let of = toml::from_str(&text).with_context(|| path.to_string())?;
        Ok(Self { of })
    }

    pub fn of(&self, title: &str) -> Option<&Ceiling> {
        self.of.get(title)
    }

    pub fn set(&mut self, title: String, ceiling: Ceiling) {
        self.of.insert(title, ceiling);
    }

    /// Writes the file anew: these, and the known ones of other variants.
    pub fn save(&self, workspace: &Workspace) -> Result<()> {
        let mut all = Self::load(workspace)?;
        all.of.extend(self.of.clone());
        let path = path(workspace);
        std::fs::write(&path, all.text(workspace))
            .with_context(|| format!("cannot write {path}"))
    }

    /// In reading order, without those of variants that there are no more.
    fn text(&self, workspace: &Workspace) -> String {
        let mut text = HEAD.to_owned();
        for model in &workspace.models {
            for variant in &model.variants {
                let title = model.title(variant);
                if let Some(ceiling) = self.of(&title) {
                    let _ = write!(text, "\n{}", table(&title, ceiling));
                }
            }
        }
        text
    }
}

const HEAD: &str = "\
# How many clients each model holds under a hard limit of 4,096 descriptors
# (`ulimit -n 4096`) and a --max-connections beyond that, and what refuses the
# next one. Where that is a limit of the machine, `machine` names it, and
# `clients` is how many were tried. Written by
#
#     cargo xtask test --case model::ceiling --record
#
# and compared on every run of the suite.
";

fn table(title: &str, ceiling: &Ceiling) -> String {
    let Ceiling { clients, ends, machine, flags } = ceiling;
    let mut text = format!("[{title:?}]\nclients = {clients}\n");
    let ends = Some(ends.clone());
    for (key, value) in
        [("ends", &ends), ("machine", machine), ("flags", flags)]
    {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = {value:?}");
        }
    }
    text
}

fn path(workspace: &Workspace) -> Utf8PathBuf {
    workspace.root.join("xtask").join("ceilings.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let some = |text: &str| Some(text.to_owned());
        let full = Ceiling {
            clients: 7,
            ends: "the \"end\"".to_owned(),
            machine: some("RLIMIT_NPROC"),
            flags: some("--loops 2"),
        };
        let bare = Ceiling { machine: None, flags: None, ..full.clone() };
        for ceiling in [full, bare] {
            let text = format!("{HEAD}\n{}", table("a/b", &ceiling));
            let read: BTreeMap<String, Ceiling> =
                toml::from_str(&text).unwrap();
            assert_eq!(read.get("a/b"), Some(&ceiling));
        }
    }

    #[test]
    fn a_number_that_may_be_more_has_a_sign() {
        let mut ceiling = Ceiling {
            clients: 4_090,
            ends: "EMFILE".to_owned(),
            machine: None,
            flags: None,
        };
        assert_eq!(ceiling.to_string(), "4090, EMFILE");
        ceiling.machine = Some("pids.max".to_owned());
        assert_eq!(ceiling.to_string(), "4090+, EMFILE");
    }
}
