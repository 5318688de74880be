//! A case, the subject it runs against, and its outcome.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use lab::model::Transport;
use lab::promises::Promises;
use trace::scene::Recording;

use super::client::Client;
use super::launch::Launch;
use super::redis::Redis;
use super::scenes::Scenes;
use super::server::{Server, Servers};
use super::skip::{Skip, skip};
use super::subject::{Example, Subject};

/// The models that a case applies to.
#[derive(Clone, Copy, Debug)]
pub enum For {
    Everyone,
    /// Models that serve one client at a time.
    One,
    /// Models that serve many clients at a time.
    Many,
    /// Models that have a minimal program.
    Minimal,
    /// Models that have a minimal program for datagrams.
    MinimalDatagrams,
    /// Models whose promises meet this condition.
    Promising(fn(&Promises) -> bool),
}

type Body = Box<dyn Fn(&Trial) -> Result<()> + Send + Sync>;

/// One promise of the models, and the code that checks it.
pub struct Case {
    pub name: String,
    models: For,
    /// True for models that need the whole machine for this case. It then runs
    /// after all others, by itself.
    alone: fn(&Promises) -> bool,
    /// True if the case mostly waits for timeouts. Such cases run beside the
    /// others, on threads of their own.
    pub waits: bool,
    /// The most clients that the case has at a time, if they are many: each
    /// needs a descriptor of this process, and a worker of a pool.
    pub crowd: usize,
    body: Body,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        body: impl Fn(&Trial) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            models: For::Everyone,
            alone: |_| false,
            waits: false,
            crowd: 0,
            body: Box::new(body),
        }
    }

    /// Makes a case that runs against one stream server.
    pub fn serving(
        name: impl Into<String>,
        body: impl Fn(&Server) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, move |trial| body(&*trial.serve()?))
    }

    pub fn only(mut self, models: For) -> Self {
        self.models = models;
        self
    }

    pub fn alone(self) -> Self {
        self.alone_for(|_| true)
    }

    /// Runs the case by itself for models whose promises meet this condition.
    pub fn alone_for(mut self, models: fn(&Promises) -> bool) -> Self {
        self.alone = models;
        self
    }

    /// Declares that the case mostly waits for timeouts.
    pub fn mostly_waits(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Declares that the case has hundreds of clients: it waits until there are
    /// descriptors for them, and a pool has a worker for each.
    pub fn crowd(mut self, clients: usize) -> Self {
        self.crowd = clients;
        self
    }

    pub fn is_for(&self, subject: &Subject) -> bool {
        match self.models {
            For::Everyone => true,
            For::One => subject.serves_one(),
            For::Many => !subject.serves_one(),
            For::Minimal => subject.minimal.is_some(),
            For::MinimalDatagrams => subject.minimal_datagrams.is_some(),
            For::Promising(condition) => condition(subject.promises()),
        }
    }

    /// Runs the case, then terminates its servers with SIGTERM and checks how
    /// each ends.
    pub fn run(&self, trial: &Trial) -> Result<()> {
        (self.body)(trial)?;
        for server in trial.servers.all() {
            server.stop().context("during shutdown after the case")?;
        }
        Ok(())
    }
}

/// State that all trials of one run share.
#[derive(Debug)]
pub struct Surroundings {
    /// The seed of random streams: the same seed gives the same streams.
    pub seed: u64,
    /// The Redis that replies are compared with, or why there is none.
    pub redis: Result<Redis, String>,
    /// The folder of the transcripts.
    pub golden: Utf8PathBuf,
    pub scenes: Scenes,
    /// True if transcripts are written instead of compared.
    pub records: bool,
}

/// One run of one case against one subject.
#[derive(Debug)]
pub struct Trial {
    pub subject: Arc<Subject>,
    pub surroundings: Arc<Surroundings>,
    pub servers: Servers,
    /// The number of workers that a model with a pool starts with.
    workers: usize,
}

impl Trial {
    /// Prepares to run a case with this many clients at a time, or with few.
    pub fn new(
        subject: &Arc<Subject>,
        around: &Arc<Surroundings>,
        crowd: usize,
    ) -> Self {
        /// As many as a case has clients that does not declare a crowd, with
        /// some that are just leaving.
        const FEW: usize = 96;

        Self {
            subject: Arc::clone(subject),
            surroundings: Arc::clone(around),
            servers: Servers::default(),
            workers: crowd.max(FEW),
        }
    }

    /// Prepares to start a server of the subject.
    pub fn launch(&self) -> Launch<'_> {
        Launch::new(&self.subject, &self.servers, self.workers)
    }

    /// Starts a stream server.
    pub fn serve(&self) -> Result<Rc<Server>> {
        self.launch().start()
    }

    /// Starts a stream server with these flags.
    pub fn serve_with(&self, flags: &str) -> Result<Rc<Server>> {
        self.launch().flags(flags).start()
    }

    /// Starts a stream server and connects a client.
    pub fn client(&self) -> Result<Client> {
        self.serve()?.connect()
    }

    /// Starts the minimal program. Skips the case if this kernel can't run the
    /// model.
    pub fn serve_minimal(&self) -> Result<Rc<Server>> {
        let minimal =
            self.subject.minimal.as_ref().context("no minimal program")?;
        let started = self.launch().example(minimal).start();
        started.map_err(|error| match self.serve() {
            Err(skipped) if skipped.is::<Skip>() => skipped,
            _ => error,
        })
    }

    /// Plays the traced scene, or returns its recording if another case has
    /// played it already.
    pub fn scene(&self, transport: Transport) -> Result<Arc<Recording>> {
        let subject = &self.subject;
        let arguments = &subject.variant.args;
        let scenes = &self.surroundings.scenes;
        scenes.recording(&subject.program, arguments, transport)
    }

    /// Plays the traced scene with an example program, see [`Self::scene`].
    pub fn scene_of(
        &self,
        example: &Example,
        transport: Transport,
    ) -> Result<Arc<Recording>> {
        let scenes = &self.surroundings.scenes;
        scenes.recording(&example.program, &[], transport)
    }

    /// Skips the case if the subject does not serve datagrams.
    pub fn needs_datagrams(&self) -> Result<()> {
        if self.subject.serves(Transport::Udp) {
            return Ok(());
        }
        let why = self.subject.variant.why.as_deref();
        Err(skip(why.unwrap_or("serves no datagrams")))
    }

    /// Returns a generator of random numbers: the same numbers for every
    /// subject and in every run with the same seed.
    pub fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.surroundings.seed)
    }
}

/// One case on one subject.
pub struct Step {
    pub subject: Arc<Subject>,
    pub group: &'static str,
    pub case: Case,
    /// The number of the subject's steps before this one.
    pub number: usize,
}

impl Step {
    /// Returns its full name, such as
    /// `multiplexing-epoll/edge::tcp::half_close`.
    pub fn name(&self) -> String {
        let title = self.subject.title();
        format!("{title}::{}::{}", self.group, self.case.name)
    }

    /// Returns the command that repeats the step.
    pub fn command_line(&self) -> String {
        format!(
            "cargo xtask test {} --case {}::{}",
            self.subject.title(),
            self.group,
            self.case.name
        )
    }

    pub fn is_alone(&self) -> bool {
        (self.case.alone)(self.subject.promises())
    }
}

/// The end of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// The full report, for people.
    Failed(String),
    /// The reason.
    Skipped(String),
}
