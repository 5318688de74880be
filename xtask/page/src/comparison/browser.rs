//! The page in a real browser: what no look at its text can tell.
//!
//! Where there is no Chromium this is skipped, and says so in a line that
//! `cargo xtask test-all` counts.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use compare::sample;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;

use super::render;
use crate::figure::sample::gathered;
use crate::shell::POLICY;

/// Under which names it is installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// It takes some seconds; a machine that is busy takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A phone's width and a desk's, in pixels.
const WIDTHS: [u32; 2] = [360, 1280];

/// Contrast that text must have: level AA of WCAG 2, section 1.4.3.
const CONTRAST: f64 = 4.5;

/// What the probe in the page found out.
#[derive(Debug, Deserialize)]
struct Facts {
    width: u32,
    /// How wide all is that there is: more than the width scrolls.
    content: u32,
    dark: bool,
    requests: u32,
    errors: Vec<String>,
    drawings: u32,
    empty: u32,
    /// Text that leaves its drawing, or lies on other text of it.
    misplaced: Vec<String>,
    texts: u32,
    /// The least that any text has.
    contrast: f64,
}

#[test]
fn is_readable_in_the_light() {
    check("page::browser::is_readable_in_the_light", false);
}

#[test]
fn is_readable_in_the_dark() {
    check("page::browser::is_readable_in_the_dark", true);
}

fn check(test: &str, dark: bool) {
    let Some(chromium) = chromium() else {
        // Not println: of a test that passes, that shows nothing.
        let line = format!("\nskipped: {test}: no Chromium on the PATH\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        return;
    };
    let folder = Folder::new(if dark { "dark" } else { "light" });
    fs::write(folder.0.join("page.html"), with_probe()).unwrap();
    fs::write(folder.0.join("index.html"), FRAMES.to_owned() + &frames())
        .unwrap();
    let (document, log) = browse(&chromium, &folder, dark);
    let all: Vec<Facts> = document
        .split("<pre>")
        .skip(1)
        .filter_map(|rest| rest.split("</pre>").next())
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    assert!(!log.contains(":CONSOLE"), "said on the console: {log}");
    assert_eq!(all.len(), WIDTHS.len(), "who answered: {document}\n{log}");
    for facts in &all {
        assert!(WIDTHS.contains(&facts.width), "{facts:?}");
        assert_eq!(facts.dark, dark);
        assert!(facts.content <= facts.width, "it scrolls: {facts:?}");
        assert_eq!(facts.requests, 0, "{facts:?}");
        assert!(facts.errors.is_empty(), "{facts:?}");
        assert!(facts.drawings >= 14 && facts.empty == 0, "{facts:?}");
        assert!(facts.misplaced.is_empty(), "{facts:?}");
        assert!(facts.texts > 1_000, "{facts:?}");
        assert!(facts.contrast >= CONTRAST, "{facts:?}");
    }
}

/// Windows have a least width, frames have none; colours are wanted in a
/// frame as they are outside of it.
const FRAMES: &str = r#"<!DOCTYPE html>
<meta name="color-scheme" content="light dark">
<script>
addEventListener("message", (event) => {
  const pre = document.createElement("pre");
  pre.textContent = event.data;
  document.body.append(pre);
});
</script>
"#;

fn frames() -> String {
    let frames = WIDTHS.map(|width| {
        format!(
            "<iframe src=\"page.html\" width=\"{width}\" height=\"900\" \
             style=\"border: 0\"></iframe>\n"
        )
    });
    frames.concat()
}

/// The page, with a script that it would not let run.
fn with_probe() -> String {
    let page = render(&sample::full(), Some(&Ok(gathered())));
    let probe = format!("<script>{}</script></head>", include_str!("probe.js"));
    let lenient = format!("{POLICY}; script-src 'unsafe-inline'");
    assert!(page.contains(POLICY));
    page.replacen(POLICY, &lenient, 1).replacen("</head>", &probe, 1)
}

fn chromium() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&paths).collect();
    NAMES.iter().find_map(|name| {
        let mut files = folders.iter().map(|folder| folder.join(name));
        files.find(|file| file.is_file())
    })
}

/// Opens the folder's index, with nobody to talk to, and brings back the
/// document as it became, and the log.
fn browse(chromium: &Path, folder: &Folder, dark: bool) -> (String, String) {
    let profile = folder.0.join("profile");
    let index = folder.0.join("index.html");
    let scheme = if dark { 0 } else { 1 };
    let mut child = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-extensions"])
        .args(["--disable-component-update", "--hide-scrollbars"])
        .args(["--enable-logging=stderr", "--log-level=0"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .args(["--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("file://{}", index.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    // Read all the while: it would wait where a pipe is full.
    let document = gather(child.stdout.take().unwrap());
    let log = gather(child.stderr.take().unwrap());
    let in_time = wait(&mut child);
    let (document, log) = (document.join().unwrap(), log.join().unwrap());
    assert!(in_time, "no answer within {PATIENCE:?}: {log}");
    (document, log)
}

fn gather(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether it ended by itself; it has ended in any case.
fn wait(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    // With those that it has started, which hold the pipes.
    let group = Pid::from_raw(child.id().cast_signed());
    killpg(group, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    false
}

/// Is there as long as it is needed.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("compare-page-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
