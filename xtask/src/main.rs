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
    /// Check claims about sockets and I/O models by experiments.
    #[command(disable_help_flag = true)]
    Claims(Arguments),
    /// Compare throughput, latency, CPU time and memory under the same load.
    #[command(disable_help_flag = true)]
    Compare(Arguments),
    /// Show two models side by side, with equal parts folded.
    Diff(diff::Flags),
    /// Trace all models and draw where each waits, with calls per request.
    #[command(disable_help_flag = true)]
    Figure(Arguments),
    /// List the models and their variants, and whether each runs here.
    List(list::Flags),
    /// Build a model and run it.
    Run(run::Flags),
    /// Measure the server designs of UNIX Network Programming, chapter 30.
    #[command(disable_help_flag = true)]
    Stevens(Arguments),
    /// Run the shared test suite on the named models.
    #[command(disable_help_flag = true)]
    Test(Arguments),
    /// Build everything, then run the unit tests and the suite on all models.
    #[command(disable_help_flag = true)]
    TestAll(Arguments),
    /// Check the repository's rules: manifests, documents, copies, code.
    #[command(disable_help_flag = true)]
    Tidy(Arguments),
    /// Show the system calls of a model while it answers one request.
    #[command(disable_help_flag = true)]
    Trace(Arguments),
    /// Show the packets of one connection, captured with a packet socket.
    #[command(disable_help_flag = true)]
    Wire(Arguments),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Diff(flags) => diff::run(&flags),
        Command::List(flags) => list::run(&flags),
        Command::Run(flags) => run::run(&flags),
        Command::Claims(args) => programs::start("page", "claims", &args),
        Command::Compare(args) => programs::start("page", "compare", &args),
        Command::Figure(args) => programs::start("page", "figure", &args),
        Command::Stevens(args) => programs::start("page", "stevens", &args),
        Command::Test(args) => programs::start("suite", "test", &args),
        Command::TestAll(args) => programs::start("suite", "test-all", &args),
        Command::Tidy(args) => programs::start("tidy", "tidy", &args),
        Command::Trace(args) => programs::start("trace", "trace", &args),
        Command::Wire(args) => programs::start("wire", "wire", &args),
    })
}
