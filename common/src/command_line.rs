//! The command line, the same for every model.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use crate::Session;
use crate::connection_limit::raise_descriptor_limit;

/// The default address of every model.
const DEFAULT_TCP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7379);

/// The program that reads the command line.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The name of the crate and of the program.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub summary: &'static str,
    /// How many clients it serves at a time.
    pub clients: Clients,
}

impl Model {
    /// Ends the process (exit code 2), with the reason `problem`, if flags of
    /// the model contradict each other.
    pub fn reject_command_line(&self, problem: &str) -> ! {
        CommandLine::<NoFlags>::command()
            .name(self.name)
            .error(clap::error::ErrorKind::ValueValidation, problem)
            .exit()
    }
}

/// How many clients a model serves at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// One conversation after the other, over one socket, because the program
    /// can wait for one descriptor only.
    One,
    /// As many as the connection limit allows.
    Many,
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address for streams.
    pub tcp: Option<SocketAddr>,
    /// The address for datagrams: a concrete address, never a wildcard.
    pub udp: Option<SocketAddr>,
    /// The most clients at a time; `None` leaves it to the limits of the
    /// process.
    pub max_connections: Option<usize>,
    /// The most bytes that the arguments of one request may have.
    pub max_request: usize,
    /// How long a client may go without a complete request; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// How long the drain waits for conversations to end.
    pub drain_timeout: Duration,
    /// The length of the accept queue, which the kernel caps at
    /// net.core.somaxconn (listen(2)).
    pub backlog: i32,
    /// Whether clients may use DEBUG, over streams.
    pub debug: bool,
}

#[derive(Debug, Parser)]
struct CommandLine<F: Args> {
    #[command(flatten)]
    shared: SharedFlags,
    #[command(flatten)]
    own: F,
}

#[derive(Args, Debug)]
#[command(next_line_help = true)]
struct SharedFlags {
    /// Address for streams; with port 0 the kernel chooses one [default:
    /// 127.0.0.1:7379, unless --udp is given].
    #[arg(long, value_name = "ADDR:PORT")]
    tcp: Option<SocketAddr>,
    /// Address for datagrams; a concrete address, not a wildcard.
    #[arg(long, value_name = "ADDR:PORT")]
    udp: Option<SocketAddr>,
    /// Maximum number of clients at a time [default: as many as the limits of
    /// the process allow].
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = at_least_one)]
    max_connections: Option<usize>,
    /// Maximum size of the arguments of one request.
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024,
          allow_negative_numbers = true, value_parser = request_size)]
    max_request: usize,
    /// Close a connection after this long without a complete request; 0 for
    /// never.
    #[arg(long, value_name = "SECS", default_value = "300",
          allow_negative_numbers = true, value_parser = seconds)]
    idle_timeout: Duration,
    /// On SIGTERM or SIGINT, wait up to this long for conversations to end.
    #[arg(long, value_name = "SECS", default_value = "5",
          allow_negative_numbers = true, value_parser = seconds)]
    drain_timeout: Duration,
    /// Length of the accept queue: connections that wait to be accepted.
    #[arg(long, value_name = "N", default_value_t = 4096,
          allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
    /// Allow DEBUG SLEEP and DEBUG SPIN, which hold up other clients.
    #[arg(long)]
    enable_debug_command: bool,
}

/// The flags of a model that has none of its own.
#[derive(Args, Debug)]
struct NoFlags {}

impl Config {
    /// Parses the command line, and raises the limit of open files to the hard
    /// limit. For `--help` or a wrong flag it prints a message and ends the
    /// process (exit code 0 or 2).
    pub fn from_command_line(model: &Model) -> Self {
        Self::with_flags::<NoFlags>(model).0
    }

    /// Parses the command line of a model with flags `F` of its own.
    pub fn with_flags<F: Args>(model: &Model) -> (Self, F) {
        let mut command = CommandLine::<F>::command()
            .name(model.name)
            .version(env!("CARGO_PKG_VERSION"))
            .about(model.summary);
        if model.clients == Clients::One {
            command = command.mut_arg("max_connections", |arg| arg.hide(true));
        }
        let mut matches = command.clone().get_matches();
        let line = CommandLine::<F>::from_arg_matches_mut(&mut matches)
            .unwrap_or_else(|error| error.format(&mut command).exit());
        if let Err(problem) = line.shared.check(model) {
            command
                .error(clap::error::ErrorKind::ValueValidation, problem)
                .exit()
        }
        raise_descriptor_limit();
        (line.shared.into(), line.own)
    }

    /// Begins the conversation with a new client.
    pub fn session(&self, id: u64) -> Session {
        let session = Session::new(id, self.max_request);
        if self.debug { session.with_debug() } else { session }
    }

    /// Ends the process (exit code 2), with the reason `why`, if the command
    /// line asks a variant for datagrams that does not serve them.
    pub fn reject_datagrams(&self, model: &Model, why: &str) {
        if let Some(udp) = self.udp {
            model.reject_command_line(&format!("--udp {udp}: {why}"))
        }
    }
}

impl SharedFlags {
    /// Checks combinations of flags.
    fn check(&self, model: &Model) -> Result<(), String> {
        if let Some(udp) = self.udp
            && udp.ip().is_unspecified()
        {
            return Err(format!(
                "--udp {udp}: a reply from a wildcard socket may leave from \
                 another address than was asked; name one address"
            ));
        }
        if model.clients == Clients::Many {
            return Ok(());
        }
        if self.max_connections.is_some() {
            return Err(format!(
                "--max-connections: {} serves one client at a time",
                model.name
            ));
        }
        if self.tcp.is_some() && self.udp.is_some() {
            return Err(format!(
                "--tcp and --udp: {} waits inside one system call, so it \
                 cannot wait for two sockets; give one of them",
                model.name
            ));
        }
        Ok(())
    }
}

impl From<SharedFlags> for Config {
    fn from(flags: SharedFlags) -> Self {
        let nowhere = flags.tcp.is_none() && flags.udp.is_none();
        Self {
            tcp: if nowhere { Some(DEFAULT_TCP) } else { flags.tcp },
            udp: flags.udp,
            max_connections: flags.max_connections,
            max_request: flags.max_request,
            idle_timeout: Some(flags.idle_timeout)
                .filter(|timeout| !timeout.is_zero()),
            drain_timeout: flags.drain_timeout,
            backlog: flags.backlog,
            debug: flags.enable_debug_command,
        }
    }
}

/// Parses seconds with an optional fraction, up to a year: a larger value is a
/// typo.
fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 24.0 * 3600.0;
    match text.parse::<f64>() {
        Ok(secs) if (0.0..=YEAR).contains(&secs) => {
            Ok(Duration::from_secs_f64(secs))
        }
        _ => Err("expected seconds, from 0 to a year".into()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".into()),
        Ok(number) => Ok(number),
    }
}

/// Redis limits one argument to 512 MiB; this limit is for all of them.
fn request_size(text: &str) -> Result<usize, String> {
    const MOST: usize = 512 * 1024 * 1024;
    match text.parse() {
        Ok(bytes @ 1..=MOST) => Ok(bytes),
        _ => Err(format!("expected bytes, from 1 to {MOST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Model =
        Model { name: "many", summary: "", clients: Clients::Many };
    const ONE: Model =
        Model { name: "one", summary: "", clients: Clients::One };

    fn parse(model: &Model, line: &str) -> Result<Config, String> {
        let words = [model.name].into_iter().chain(line.split_whitespace());
        let line = CommandLine::<NoFlags>::try_parse_from(words)
            .map_err(|error| error.to_string())?;
        line.shared.check(model)?;
        Ok(line.shared.into())
    }

    #[test]
    fn no_flag_serves_streams_on_the_default_port() {
        let config = parse(&MANY, "").unwrap();
        assert_eq!(config.tcp, Some(DEFAULT_TCP));
        assert_eq!(config.udp, None);
        assert_eq!(config.idle_timeout, Some(Duration::from_secs(300)));
        assert_eq!(config.drain_timeout, Duration::from_secs(5));
        assert_eq!(config.max_request, 1024 * 1024);
    }

    #[test]
    fn datagrams_alone_bind_no_stream() {
        let config = parse(&ONE, "--udp [::1]:0").unwrap();
        assert_eq!(config.tcp, None);
        assert_eq!(config.udp, Some("[::1]:0".parse().unwrap()));
    }

    #[test]
    fn idle_timeout_zero_means_never() {
        let config = parse(&MANY, "--idle-timeout 0").unwrap();
        assert_eq!(config.idle_timeout, None);
    }

    #[test]
    fn fractions_of_a_second_count() {
        let config = parse(&MANY, "--drain-timeout 0.25").unwrap();
        assert_eq!(config.drain_timeout, Duration::from_millis(250));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (model, line, said) in [
            (&MANY, "--udp 0.0.0.0:0", "name one address"),
            (&MANY, "--udp [::]:7000", "name one address"),
            (&MANY, "--tcp localhost", "--tcp"),
            (&MANY, "--max-connections 0", "from 1"),
            (&MANY, "--max-request 0", "from 1 to"),
            (&MANY, "--idle-timeout -1", "--idle-timeout"),
            (&MANY, "--idle-timeout NaN", "seconds"),
            (&MANY, "--drain-timeout inf", "seconds"),
            (&MANY, "--backlog 0", "--backlog"),
            (&ONE, "--max-connections 5", "one client at a time"),
            (
                &ONE,
                "--tcp 127.0.0.1:0 --udp 127.0.0.1:0",
                "cannot wait for two sockets",
            ),
        ] {
            let problem = parse(model, line).expect_err(line);
            assert!(problem.contains(said), "{line}: {problem}");
        }
    }
}
