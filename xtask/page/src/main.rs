//! The subcommands of `cargo xtask` that measure or make a page: `claims`,
//! `compare`, `figure` and `stevens`.

mod calls;
mod chart;
mod chart_data;
mod charts;
mod claimed;
mod comparison;
mod count;
mod figure;
mod paired;
mod shell;
mod survey;
mod tables;
mod trace_all;
mod traced;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use compare::{CHART, PAGE};
use lab::{program, screen};

#[derive(Debug, Subcommand)]
enum Command {
    /// Check claims about sockets and I/O models by experiments.
    Claims(claims::Flags),
    /// Compare throughput, latency, CPU time and memory under the same load.
    Compare(compare::Flags),
    /// Trace all models and draw where each waits, with calls per request.
    Figure(trace_all::Flags),
    /// Measure the server designs of UNIX Network Programming, chapter 30.
    Stevens(compare::stevens::Flags),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Claims(flags) => claimed::run(&flags),
        Command::Compare(flags) => compare_models(&flags),
        Command::Figure(flags) => trace_all::run(&flags),
        Command::Stevens(flags) => compare::stevens::run(&flags),
    })
}

/// Measures and traces the models, prints the results and writes the page.
fn compare_models(flags: &compare::Flags) -> Result<ExitCode> {
    let comparison = compare::measure(flags)?;
    let traces = comparison
        .is_traced()
        .then(|| trace(&comparison).map_err(|error| format!("{error:#}")));
    let results = &comparison.results;
    let pairs = comparison.pairs.as_ref();
    let page = comparison::render(results, pairs, traces.as_ref());
    comparison.write(PAGE, &page)?;
    comparison.write(CHART, &comparison::chart_for_readme(results))?;
    comparison.show()?;
    let folder = &comparison.folder;
    let files = comparison.run_files().join(", ");
    screen::print(&format!("\nIn {folder}: {PAGE}; all runs: {files}\n"))?;
    comparison.conclude()
}

/// Traces the models after all measurements.
fn trace(comparison: &compare::Comparison) -> Result<survey::Survey> {
    comparison.leave_processor()?;
    survey::survey(&comparison.workspace, &comparison.models())
}
