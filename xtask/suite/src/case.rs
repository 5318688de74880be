//! A case, what it runs against, and how it may end.

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

/// The models that a case is for.
#[derive(Clone, Copy, Debug)]
pub enum For {
    Everyone,
    /// Models that serve one client at a time.
    One,
    /// Models that serve many.
    Many,
    /// Models that have a minimal program.
    Minimal,
    /// Models that have one for datagrams.
    MinimalDatagrams,
    /// Models that promise this.
    Promising(fn(&Promises) -> bool),
}

type Body = Box<dyn Fn(&Trial) -> Result<()> + Send + Sync>;

/// One thing that models promise, and how to see that they keep it.
pub struct Case {
    pub name: String,
    models: For,
    /// Models that need the machine's time for it: they are tested after the
    /// others, by themselves.
    alone: fn(&Promises) -> bool,
    /// How many clients it holds at a time, if many: they are descriptors of
    /// this process.
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
            crowd: 0,
            body: Box::new(body),
        }
    }

    /// Makes a case about one server for streams.
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

    /// Runs it by itself for models that promise this.
    pub fn alone_for(mut self, models: fn(&Promises) -> bool) -> Self {
        self.alone = models;
        self
    }

    /// Says that the case has thousands of clients: it waits until there are
    /// descriptors for them.
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

    /// Runs the case, then stops its servers the way an operator would and
    /// checks that each leaves in order.
    pub fn run(&self, trial: &Trial) -> Result<()> {
        (self.body)(trial)?;
        for server in trial.servers.all() {
            server.stop().context("when stopped after the case")?;
        }
        Ok(())
    }
}

/// The things that all trials of one run share.
#[derive(Debug)]
pub struct Surroundings {
    /// The seed of random streams: the same seed gives the same streams.
    pub seed: u64,
    /// The Redis that judges replies, or why there is none.
    pub redis: Result<Redis, String>,
    /// The folder of the transcripts.
    pub golden: Utf8PathBuf,
    pub scenes: Scenes,
    /// Transcripts are written, not compared.
    pub records: bool,
}

/// One run of one case against one subject.
#[derive(Debug)]
pub struct Trial {
    pub subject: Arc<Subject>,
    pub surroundings: Arc<Surroundings>,
    pub servers: Servers,
}

impl Trial {
    pub fn new(subject: &Arc<Subject>, around: &Arc<Surroundings>) -> Self {
        Self {
            subject: Arc::clone(subject),
            surroundings: Arc::clone(around),
            servers: Servers::default(),
        }
    }

    /// Prepares a server of the subject.
    pub fn launch(&self) -> Launch<'_> {
        Launch::new(&self.subject, &self.servers)
    }

    /// Starts a server for streams.
    pub fn serve(&self) -> Result<Rc<Server>> {
        self.launch().start()
    }

    /// Starts a server for streams with these flags.
    pub fn serve_with(&self, flags: &str) -> Result<Rc<Server>> {
        self.launch().flags(flags).start()
    }

    /// Starts a server for streams and connects a client.
    pub fn client(&self) -> Result<Client> {
        self.serve()?.connect()
    }

    /// Starts the minimal program. Skips the case where this kernel can't run
    /// the model.
    pub fn serve_minimal(&self) -> Result<Rc<Server>> {
        let minimal = self.subject.minimal.as_ref().context("none")?;
        let started = self.launch().example(minimal).start();
        started.map_err(|error| match self.serve() {
            Err(skipped) if skipped.is::<Skip>() => skipped,
            _ => error,
        })
    }

    /// Plays the traced scene, or returns what was seen when another case had
    /// it played.
    pub fn scene(&self, transport: Transport) -> Result<Arc<Recording>> {
        let subject = &self.subject;
        let arguments = &subject.variant.args;
        let scenes = &self.surroundings.scenes;
        scenes.recording(&subject.program, arguments, transport)
    }

    /// The same with an example.
    pub fn scene_of(
        &self,
        example: &Example,
        transport: Transport,
    ) -> Result<Arc<Recording>> {
        let scenes = &self.surroundings.scenes;
        scenes.recording(&example.program, &[], transport)
    }

    /// Skips the case where the subject does not serve datagrams.
    pub fn needs_datagrams(&self) -> Result<()> {
        if self.subject.serves(Transport::Udp) {
            return Ok(());
        }
        let why = self.subject.variant.why.as_deref();
        Err(skip(why.unwrap_or("serves no datagrams")))
    }

    /// Makes random numbers, the same for every subject and in every run with
    /// one seed.
    pub fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.surroundings.seed)
    }
}

/// One case on one subject.
pub struct Step {
    pub subject: Arc<Subject>,
    pub group: &'static str,
    pub case: Case,
    /// How many steps of the subject come before it.
    pub number: usize,
}

impl Step {
    /// `multiplexing-epoll/edge::tcp::half_close`.
    pub fn name(&self) -> String {
        let title = self.subject.title();
        format!("{title}::{}::{}", self.group, self.case.name)
    }

    /// Returns the command that repeats it.
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
    /// The whole story, for people.
    Failed(String),
    /// The reason.
    Skipped(String),
}
