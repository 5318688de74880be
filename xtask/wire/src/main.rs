//! `cargo xtask wire`: shows the packets of one connection, captured with a
//! packet socket, beside the system calls of both sides.

mod afterwards;
mod call;
mod capture;
mod client;
mod filter;
mod ladder;
mod moments;
mod notes;
mod packet;
mod pcap;
mod scene;
mod served;
mod summary;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use lab::model::{Transport, Workspace};
use lab::{build, program, screen};

use capture::Capture;
use client::End;
use ladder::Notes;
use packet::Ends;
use scene::{Scene, Script};

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the packets of one connection, captured with a packet socket.
    Wire(Flags),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Wire(flags) => run(&flags),
    })
}

/// Flags of `cargo xtask wire`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Model, optionally with a variant (default: the model's first).
    #[arg(value_name = "MODEL[/VARIANT]")]
    title: String,
    /// Show one datagram and its reply instead of a connection.
    #[arg(long)]
    udp: bool,
    /// Use IPv6.
    #[arg(long)]
    ipv6: bool,
    /// How the connection ends, and which side ends it.
    #[arg(
        long,
        value_name = "WHO",
        default_value = "client",
        conflicts_with = "udp"
    )]
    end: End,
    /// Show packets and calls without notes.
    #[arg(long)]
    brief: bool,
    /// Also write the packets to a file for tcpdump or Wireshark.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

/// Runs the command. The exit code is 77 if no packet socket can be opened or
/// the model can't run here, and 2 if the model doesn't exist.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let transport = if flags.udp { Transport::Udp } else { Transport::Tcp };
    let script = Script { transport, ipv6: flags.ipv6, end: flags.end };
    let (model, variant) = workspace.serving(&flags.title, transport)?;
    let title = model.title(variant);
    // Opened before the build, so that an error is reported at once.
    let capture = Capture::open()?;
    let file = flags.pcap.as_ref().map(|path| {
        let file = File::create(path);
        file.with_context(|| format!("cannot write {}", path.display()))
    });
    let file = file.transpose()?;
    build::release(&workspace, std::slice::from_ref(model))?;
    let program = build::binary(&workspace, model);
    let mut arguments = variant.args.clone();
    arguments.extend(model.idle_flags.iter().cloned());
    let scene = Scene::play(capture, &program, &arguments, script)
        .with_context(|| title.clone())?;
    if let Some(file) = file {
        pcap::write(&scene.frames, BufWriter::new(file)).context("--pcap")?;
    }
    let text = match flags.brief {
        true => scene.ladder(screen::width(), Notes::Without),
        false => scene.story(&title, screen::width()),
    };
    screen::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl Scene {
    /// Formats the ladder and the sentences below it, for this many columns.
    fn story(&self, title: &str, width: Option<usize>) -> String {
        let Ends { client, server } = self.ends;
        let transport = self.script.transport;
        let mut text = format!(
            "{title} over {transport}: client {client}, server {server}\n\n"
        );
        text += &self.ladder(width, Notes::With);
        text.push('\n');
        for sentence in summary::sentences(self) {
            text += &screen::fill(&sentence, width.unwrap_or(80).min(100));
            text.push('\n');
        }
        text
    }

    fn ladder(&self, width: Option<usize>, notes: Notes) -> String {
        let moments =
            moments::in_order(self.packets.clone(), self.calls.clone());
        ladder::draw(&moments, width, notes)
    }
}

#[cfg(test)]
mod tests;
