//! `cargo xtask`: builds, runs, checks and compares the models.
//!
//! The subcommands that a new user needs first are compiled into this program.
//! The others are programs of their own, which cargo builds on first use.

mod diff;
mod list;
mod programs;
mod run;

use std::process::ExitCode;

use clap::Subcommand;
use lab::program;

use programs::Arguments;

#[derive(Debug, Subcommand)]
enum Command {
    /// Put the same load on each model, and compare rate, latency and cost.
    #[command(disable_help_flag = true)]
    Compare(Arguments),
    /// Show two models side by side, with equal parts folded.
    Diff(diff::Flags),
    /// Trace all models: how each waits, and system calls per request.
    #[command(disable_help_flag = true)]
    Figure(Arguments),
    /// List the models and their variants, and try each on this machine.
    List(list::Flags),
    /// Build one model and run it.
    Run(run::Flags),
    /// Run the shared suite on the named models.
    #[command(disable_help_flag = true)]
    Test(Arguments),
    /// Build everything, run the unit tests and the suite on every model.
    #[command(disable_help_flag = true)]
    TestAll(Arguments),
    /// Check the repository's rules.
    #[command(disable_help_flag = true)]
    Tidy(Arguments),
    /// Show a model's system calls while it answers one request.
    #[command(disable_help_flag = true)]
    Trace(Arguments),
    /// Show the packets of one conversation, seen through a packet socket.
    #[command(disable_help_flag = true)]
    Wire(Arguments),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Diff(flags) => diff::run(&flags),
        Command::List(flags) => list::run(&flags),
        Command::Run(flags) => run::run(&flags),
        Command::Compare(args) => programs::start("page", "compare", &args),
        Command::Figure(args) => programs::start("page", "figure", &args),
        Command::Test(args) => programs::start("suite", "test", &args),
        Command::TestAll(args) => programs::start("suite", "test-all", &args),
        Command::Tidy(args) => programs::start("tidy", "tidy", &args),
        Command::Trace(args) => programs::start("trace", "trace", &args),
        Command::Wire(args) => programs::start("wire", "wire", &args),
    })
}
