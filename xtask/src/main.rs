//! `cargo xtask`: builds, runs, checks and compares the models.

mod compare;
mod diff;
mod list;
mod run;
mod suite;
mod tidy;
mod trace;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs, checks and compares the models.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put the same load on every model and show what each makes of it.
    Compare(compare::Flags),
    /// Show two models side by side, what they share folded away.
    Diff(diff::Flags),
    /// List the models, their variants and what each can do here.
    List(list::Flags),
    /// Measure what an idle client costs in memory, model by model.
    Memory(suite::memory::Flags),
    /// Build one model and run it.
    Run(run::Flags),
    /// Run the shared suite on the named models.
    Test(suite::Flags),
    /// Build everything, run the unit tests and the suite on every model.
    TestAll(suite::AllFlags),
    /// Check the repository's rules.
    Tidy(tidy::Flags),
    /// Show a model's system calls while it answers one request.
    Trace(trace::Flags),
    /// Show the packets of one conversation, seen through a packet socket.
    Wire(wire::Flags),
}

fn main() -> ExitCode {
    let result = match Flags::parse().command {
        Command::Compare(flags) => compare::run(&flags),
        Command::Diff(flags) => diff::run(&flags),
        Command::List(flags) => list::run(&flags),
        Command::Memory(flags) => suite::memory::run(&flags),
        Command::Run(flags) => run::run(&flags),
        Command::Test(flags) => suite::test(&flags),
        Command::TestAll(flags) => suite::test_all(&flags),
        Command::Tidy(flags) => tidy::run(&flags),
        Command::Trace(flags) => trace::run(&flags),
        Command::Wire(flags) => wire::run(&flags),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
