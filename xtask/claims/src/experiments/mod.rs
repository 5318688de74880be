//! The experiments, by topic. Each file has one claim, the measurement and the
//! criterion (`judge`), which is tested with made-up measurements.

mod asynchronous;
pub mod copies;
mod epoll;
mod models;
mod readiness;
mod scaling;
mod sockets;

use crate::claim::Claim;

/// Claims that belong together.
#[derive(Debug)]
pub struct Topic {
    pub title: &'static str,
    pub claims: &'static [&'static Claim],
    /// A figure of the findings.
    pub picture: Option<Picture>,
}

/// A figure in docs/.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    pub title: &'static str,
    pub file: &'static str,
}

/// Returns the topics in the order of the notes.
pub fn topics() -> [&'static Topic; 7] {
    [
        &sockets::TOPIC,
        &models::TOPIC,
        &copies::TOPIC,
        &readiness::TOPIC,
        &epoll::TOPIC,
        &asynchronous::TOPIC,
        &scaling::TOPIC,
    ]
}

/// Returns all claims in order.
pub fn all() -> impl Iterator<Item = &'static Claim> {
    topics().into_iter().flat_map(|topic| topic.claims).copied()
}

/// Returns the claim with this ID.
pub fn find(id: &str) -> Option<&'static Claim> {
    all().find(|claim| claim.id == id)
}

/// Returns whether the experiment starts models, which must be built before.
pub fn needs_models(claim: &Claim) -> bool {
    scaling::SERVED.iter().any(|it| it.id == claim.id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn each_claim_is_complete_and_its_criterion_is_tested() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let mut ids = BTreeSet::new();
        for claim in all() {
            let id = claim.id;
            assert!(ids.insert(id), "{id}: twice");
            let allowed = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(id.chars().all(allowed), "{id}: not an ID");
            for text in [claim.claim, claim.criterion, claim.explanation] {
                assert!(text.ends_with('.'), "{id}: not a sentence: {text}");
            }
            assert!(!claim.sources.is_empty(), "{id}: no source");
            let code = fs::read_to_string(format!("{root}/{}", claim.file));
            let code = code.unwrap();
            assert!(code.contains("fn judge("), "{id}: no criterion");
            assert!(code.contains("mod tests"), "{id}: criterion not tested");
            let starts_models = code.contains("use crate::kit::served");
            assert_eq!(needs_models(claim), starts_models, "{id}: SERVED");
        }
    }

    #[test]
    fn every_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/experiments");
        let mut files = 0;
        for topic in fs::read_dir(folder).unwrap() {
            let topic = topic.unwrap().path();
            if topic.is_dir() {
                let entries = fs::read_dir(topic).unwrap().map(Result::unwrap);
                files += entries
                    .filter(|it| {
                        let code = fs::read_to_string(it.path()).unwrap();
                        code.contains("pub const CLAIM: Claim")
                    })
                    .count();
            }
        }
        assert_eq!(all().count(), files);
    }

    /// Returns the IDs in a chapter's references: `docs/CLAIMS.md: a, b.`
    fn named(chapter: &str) -> Vec<String> {
        let text = chapter.replace("\n//!  ", "");
        let lists = text.split("docs/CLAIMS.md: ").skip(1);
        let ids = lists.filter_map(|list| list.split('.').next());
        ids.flat_map(|ids| ids.split(", ")).map(str::to_owned).collect()
    }

    #[test]
    fn chapters_name_claims_that_exist() {
        let workspace = lab::model::Workspace::load().unwrap();
        let mut count = 0;
        for model in &workspace.models {
            let folder = model.folder.join("src");
            for file in fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                let Ok(code) = fs::read_to_string(&path) else { continue };
                for id in named(&code) {
                    let path = path.display();
                    assert!(find(&id).is_some(), "{path}: no claim {id}");
                    count += 1;
                }
            }
        }
        assert!(count > workspace.models.len(), "{count}");
    }
}
