//! The command line and the exit codes that all programs of `cargo xtask`
//! share.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Error, Result};
use clap::{Parser, Subcommand};

use crate::Unsupported;
use crate::model::NotFound;

/// Builds, runs, checks and compares the models.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
#[command(disable_help_subcommand = true)]
struct Program<C: Subcommand> {
    #[command(subcommand)]
    command: C,
}

/// Parses the command line and runs the command. Prints an error, and derives
/// the exit code from its type.
pub fn main<C: Subcommand>(
    run: impl FnOnce(C) -> Result<ExitCode>,
) -> ExitCode {
    let arguments = with_help_flag(env::args_os().collect());
    let Program { command } = Program::parse_from(arguments);
    run(command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(code(&error))
    })
}

/// Turns `help COMMAND` into `COMMAND --help`, which the command's own program
/// parses.
fn with_help_flag(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|first| first == "help") {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    arguments
}

/// The exit code that clap uses for a wrong command line.
const WRONG_COMMAND_LINE: u8 = 2;

fn code(error: &Error) -> u8 {
    if error.is::<Unsupported>() {
        Unsupported::CODE
    } else if error.is::<NotFound>() {
        WRONG_COMMAND_LINE
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn help_as_a_command_is_the_flag() {
        let row = |words: &str| {
            let words = words.split(' ').map(OsString::from).collect();
            let words = with_help_flag(words);
            words.join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(row("xtask help"), "xtask --help");
        assert_eq!(row("xtask help run"), "xtask run --help");
        assert_eq!(row("xtask run help"), "xtask run help");
    }

    #[test]
    fn what_a_machine_lacks_has_a_code_of_its_own() {
        let lack = Err::<(), _>(Unsupported::Model("no io_uring".to_owned()));
        let lack = lack.context("async-io").context("tracing").unwrap_err();
        assert_eq!(code(&lack), 77);
        assert_eq!(code(&anyhow!("no io_uring")), 1);
    }
}
