//! The recorded findings: what the experiments found on one machine.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::claim::{Claim, Finding, Verdict};
use crate::experiments::Topic;

/// The file of recorded findings, which `--record` writes.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recorded.toml");

/// The findings of one run of all experiments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub machine: Machine,
    /// By the claim's ID.
    findings: BTreeMap<String, Finding>,
}

/// Where and when the experiments ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub processor: String,
    pub date: String,
}

impl Record {
    /// Reads the recorded findings. There are none before the first `--record`.
    pub fn recorded() -> Result<Self> {
        match fs::read_to_string(PATH) {
            Ok(text) => toml::from_str(&text).context(PATH),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error).context(PATH),
        }
    }

    /// Makes an empty record of this machine, today.
    pub fn here() -> Self {
        Self { machine: Machine::here(), findings: BTreeMap::new() }
    }

    /// Keeps the summary of each sample.
    pub fn insert(&mut self, claim: &Claim, mut finding: Finding) {
        for figure in &mut finding.figures {
            figure.sample = figure.sample.summary();
        }
        self.findings.insert(claim.id.to_owned(), finding);
    }

    /// Returns the number of findings.
    pub fn count(&self) -> usize {
        self.findings.len()
    }

    /// Returns the claims of a topic that have findings.
    pub fn of_topic(
        &self,
        topic: &Topic,
    ) -> impl Iterator<Item = (&'static Claim, &Finding)> {
        let claims = topic.claims.iter();
        claims.filter_map(|claim| Some((*claim, self.finding(claim)?)))
    }

    pub fn finding(&self, claim: &Claim) -> Option<&Finding> {
        self.findings.get(claim.id)
    }

    pub fn verdict(&self, claim: &Claim) -> Option<Verdict> {
        let finding = self.finding(claim)?;
        Some(Verdict::new(finding.answer, claim.if_false))
    }

    pub fn save(&self) -> Result<()> {
        fs::write(PATH, toml::to_string(self)?).context(PATH)
    }
}

impl Machine {
    fn here() -> Self {
        let output = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let text = output.map(|output| output.stdout).unwrap_or_default();
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| {
            line.strip_prefix("model name")?.split_once(": ").map(|it| it.1)
        });
        let processors = info.matches("processor\t:").count();
        let model = model.unwrap_or("unknown processor");
        Self {
            // Without what a distribution has added to the version.
            kernel: output("uname", &["-sr"])
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
            processor: format!("{model}, {processors} processors"),
            date: output("date", &["+%F"]),
        }
    }
}
