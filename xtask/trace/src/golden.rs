//! The recorded transcripts: one file per variant and transport, in the folder
//! `xtask/trace/golden`.

use std::fs;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use lab::model::{Transport, Workspace};
use similar::TextDiff;

const FOLDER: &str = "xtask/trace/golden";

/// Returns the folder of the transcripts.
pub fn folder(workspace: &Workspace) -> Utf8PathBuf {
    workspace.root.join(FOLDER)
}

/// Returns a transcript's file name: `multiplexing-epoll-edge.tcp.txt`.
pub fn file(title: &str, transport: Transport) -> String {
    format!("{}.{transport}.txt", title.replace('/', "-"))
}

/// Fails if a transcript differs from the recorded one.
pub fn compare(
    folder: &Utf8Path,
    title: &str,
    transport: Transport,
    transcript: &str,
) -> Result<()> {
    let path = folder.join(file(title, transport));
    let rewrite = command(title);
    let written = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}; record it: {rewrite}"))?;
    let seen = text(title, transport, transcript);
    let diff = TextDiff::from_lines(&written, &seen);
    ensure!(
        written == seen,
        "the server makes other calls (+) than those recorded (-) in \
         {FOLDER}/{}:\n{}if that is intended, record them: {rewrite}",
        file(title, transport),
        diff.unified_diff().context_radius(4)
    );
    Ok(())
}

/// Writes a transcript in place of the recorded one.
pub fn write(
    folder: &Utf8Path,
    title: &str,
    transport: Transport,
    transcript: &str,
) -> Result<()> {
    let path = folder.join(file(title, transport));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text(title, transport, transcript)))
        .with_context(|| format!("cannot write {path}"))
}

fn text(title: &str, transport: Transport, transcript: &str) -> String {
    format!(
        "# {title} over {transport}: what each thread does with one client,\n\
         # and where it waits. Written by\n\
         # {}\n\
         {transcript}",
        command(title)
    )
}

fn command(title: &str) -> String {
    format!("cargo xtask test {title} --case trace::transcript --record")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_a_variants() {
        let workspace = Workspace::load().unwrap();
        let mut known = Vec::new();
        for (model, variant) in workspace.variants() {
            for transport in model.transports_of(variant) {
                known.push(file(&model.title(variant), *transport));
            }
        }
        for entry in folder(&workspace).read_dir_utf8().unwrap() {
            let name = entry.unwrap().file_name().to_owned();
            assert!(known.contains(&name), "{name} belongs to no variant");
        }
    }

    #[test]
    fn a_difference_is_shown_with_what_rewrites_it() {
        let folder = Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap();
        let folder = folder.join(format!("golden-{}", std::process::id()));
        let title = "multiplexing-epoll/edge";
        let compared = |text| compare(&folder, title, Transport::Tcp, text);
        let missing = format!("{:#}", compared("a\n").unwrap_err());
        write(&folder, title, Transport::Tcp, "a\nb\nc\n").unwrap();
        let same = compared("a\nb\nc\n");
        let other = format!("{:#}", compared("a\nx\nc\n").unwrap_err());
        fs::remove_dir_all(&folder).unwrap();
        same.unwrap();
        let command = "cargo xtask test multiplexing-epoll/edge \
                       --case trace::transcript --record";
        assert!(missing.contains(command), "{missing}");
        assert!(other.contains(command), "{other}");
        assert!(other.contains("\n a\n-b\n+x\n c\n"), "{other}");
    }
}
