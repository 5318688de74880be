//! One model's column of the figure: the calls of its threads, in order, and
//! the state of each thread meanwhile. Not to scale: each call is one row.

use std::time::Duration;

use lab::number::count;
use nix::unistd::Pid;

use super::account::Account;
use super::story::{Story, is_shown};
use crate::call::CallStep;
use crate::calls::Family;
use crate::fold::fold;
use crate::phases::{Part, Phases, Place, returns_eagain, sleeps_at};
use crate::scene::{Marks, Recording};
use crate::steps::{Deed, OperationStep, Step};

/// The longest text of a row, in characters.
const LETTERS: usize = 16;

/// The parts of the scene, from top to bottom.
pub const BANDS: usize = 4;

/// Titles of the bands, in two parts; each part has the width of a column.
pub const BAND_TITLES: [(&str, &str); BANDS] = [
    ("a new client", ""),
    ("phase 1: waiting", "100 ms without data"),
    ("phase 2: copying", "the data is there"),
    ("the reply", ""),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub title: String,
    pub bands: [Vec<Row>; BANDS],
    pub account: Account,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub text: String,
    /// The state of each thread, the main one first.
    pub bars: Vec<Bar>,
    /// The index of the thread that the text is about.
    pub lane: usize,
    /// True where the kernel copies without a call.
    pub kernel: bool,
    /// True where the program learns of the data.
    pub learns: bool,
    /// True for a call that returns EAGAIN.
    pub eagain: bool,
}

/// A thread's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    Running,
    /// In the call that it waits in.
    Asleep,
    /// In a receiving call that returns EAGAIN.
    Eagain,
    /// In the call that copies.
    Copying,
}

impl Column {
    /// Returns None if the trace does not show the request.
    pub fn new(title: &str, recording: &Recording) -> Option<Self> {
        let Recording { steps, marks } = recording;
        let phases = Phases::find(recording)?;
        let story = Story::new(steps, &phases);
        let moments = moments(steps, marks, &phases, &story);
        let learns = learns(&moments, &phases, &story);
        let learns = learns.map(|place| (place, moments[place].at));
        let mut maker = Maker {
            phases: &phases,
            story: &story,
            learns,
            lanes: Vec::new(),
            bands: Default::default(),
            copied: false,
        };
        for (place, moment) in moments.iter().enumerate() {
            maker.take(place, moment, marks);
        }
        let account = story.account();
        let mut bands = maker.bands;
        // These calls returned EAGAIN before there was a client.
        let come = bands[0].iter().position(|row| !row.eagain);
        bands[0].drain(..come.unwrap_or(0));
        let bands = bands.map(|rows| folded(&rows));
        Some(Self { title: title.to_owned(), bands, account })
    }
}

/// A step, or one end of a step during which something else happens.
#[derive(Clone, Copy, Debug)]
struct Moment<'a> {
    at: Duration,
    index: usize,
    step: &'a Step,
    part: Part,
    /// True if the call that copies returns here, or the copy is complete.
    copies: bool,
    /// True if it is part of the call above it.
    inside: bool,
}

/// Returns the moments from the client's connect to the sending of the reply.
/// Calls in which threads were asleep when the client connected or sent are in
/// two parts.
fn moments<'a>(
    steps: &'a [Step],
    marks: &Marks,
    phases: &Phases,
    story: &Story<'_>,
) -> Vec<Moment<'a>> {
    let all = steps.iter().enumerate().skip(phases.copier);
    let mut replies = all.filter(|(_, step)| replies(step));
    let last = replies.next().map_or(steps.len(), |(index, _)| index);
    let mut moments = Vec::new();
    for (index, step) in steps.iter().enumerate().take(last + 1) {
        let inside = story.is_inside(index);
        let moment = |at, part| {
            let copies = index == phases.copier && part != Part::Enter;
            Moment { at, index, step, part, copies, inside }
        };
        let is_split = step.call().is_some()
            && (sleeps_at(step, marks.connecting)
                || sleeps_at(step, marks.sending));
        let is_over = step.until.unwrap_or(step.at) < marks.connecting;
        if !is_shown(step) || is_over {
            continue;
        }
        if is_split {
            moments.push(moment(step.at, Part::Enter));
            let end = steps.get(last).map_or(Duration::MAX, |step| step.at);
            if let Some(until) = step.until.filter(|until| *until <= end)
                && !story.is_interrupted(index)
            {
                moments.push(moment(until, Part::Return));
            }
        } else {
            moments.push(moment(step.at, Part::Whole));
        }
    }
    moments.sort_by_key(|moment| moment.at);
    moments
}

/// Returns whether a step sends the reply.
fn replies(step: &Step) -> bool {
    step.call().is_some_and(|call| {
        let sends = call.family == Family::Send
            && call.is_about_client()
            && call.returns_at_least(1);
        let mut handed = call.submitted.iter();
        sends || handed.any(|it| it.operation.family == Family::Send)
    })
}

/// Returns the moment at which the program learns of the data: a handler runs,
/// the call that it waits in returns, or the call that copies returns.
fn learns(
    moments: &[Moment<'_>],
    phases: &Phases,
    story: &Story<'_>,
) -> Option<usize> {
    let end = |wanted: Option<usize>| {
        moments.iter().position(|moment| {
            Some(moment.index) == wanted && moment.part != Part::Enter
        })
    };
    let waited = || end(story.sleeper);
    end(story.handler).or_else(waited).or_else(|| end(Some(phases.copier)))
}

/// Builds the rows.
#[derive(Debug)]
struct Maker<'a> {
    phases: &'a Phases,
    story: &'a Story<'a>,
    /// The index of the moment at which the program learns of the data, and its
    /// time.
    learns: Option<(usize, Duration)>,
    /// The threads, and the current state of each.
    lanes: Vec<(Pid, Bar)>,
    bands: [Vec<Row>; BANDS],
    copied: bool,
}

impl Maker<'_> {
    fn take(&mut self, place: usize, moment: &Moment<'_>, marks: &Marks) {
        let lane = self.lane(moment.step.tid);
        let (now, after) = self.bars(moment, self.lanes[lane].1);
        self.lanes[lane].1 = now;
        let band = self.band(moment);
        let begun = moment.part == Part::Enter && moment.at < marks.connecting;
        if begun && band > 0 {
            // The thread has been asleep since before there was a client.
            let row = self.row(String::new(), lane);
            self.bands[0].push(row);
        }
        if band > 0 || !begun {
            self.add_rows(place, moment, lane, band);
        }
        self.copied |= moment.copies;
        self.lanes[lane].1 = after;
    }

    /// Returns a thread's state in the rows of a moment, and in those after
    /// them.
    fn bars(&self, moment: &Moment<'_>, before: Bar) -> (Bar, Bar) {
        let runs = |now| (now, Bar::Running);
        let stays = |bar| (bar, bar);
        match &moment.step.deed {
            Deed::Call(_) if moment.part == Part::Enter => stays(Bar::Asleep),
            Deed::Call(_) if moment.copies => runs(Bar::Copying),
            Deed::Call(call)
                if moment.part == Part::Whole && returns_eagain(call) =>
            {
                runs(Bar::Eagain)
            }
            Deed::Call(_) => runs(Bar::Running),
            Deed::Completed(_)
                if moment.copies && self.phases.place == Place::Enter =>
            {
                runs(Bar::Copying)
            }
            Deed::Signal(..) if Some(moment.index) == self.story.handler => {
                runs(Bar::Running)
            }
            _ => stays(before),
        }
    }

    fn add_rows(
        &mut self,
        place: usize,
        moment: &Moment<'_>,
        lane: usize,
        band: usize,
    ) {
        let kernel = moment.copies && self.phases.place == Place::Kernel;
        let learns = self.learns.is_some_and(|(it, _)| it == place);
        let call = moment.step.call();
        let eagain = call.is_some_and(|call| call.fails_with(libc::EAGAIN));
        let texts = texts(moment, kernel && call.is_none());
        for (part, text) in texts.into_iter().enumerate() {
            let first = part == 0;
            let (kernel, learns) = (kernel && first, learns && first);
            let row = self.row(text, lane);
            self.bands[band].push(Row { kernel, learns, eagain, ..row });
        }
    }

    /// Returns the band that a moment belongs to.
    fn band(&self, moment: &Moment<'_>) -> usize {
        let (since, arrival) = self.phases.waiting;
        // Events that a wait returns have the time of its return.
        let knows = self.learns.is_none_or(|(_, when)| when < moment.at);
        let waits =
            moment.part == Part::Enter && sleeps_at(moment.step, arrival);
        match moment.at {
            _ if self.copied && knows => 3,
            at if moment.copies || at >= arrival => 2,
            at if waits || at >= since => 1,
            _ => 0,
        }
    }

    fn row(&self, text: String, lane: usize) -> Row {
        let bars = self.lanes.iter().map(|(_, bar)| *bar).collect();
        Row { text, bars, lane, kernel: false, learns: false, eagain: false }
    }

    fn lane(&mut self, tid: Pid) -> usize {
        let known = self.lanes.iter().position(|(other, _)| *other == tid);
        known.unwrap_or_else(|| {
            self.lanes.push((tid, Bar::Running));
            self.lanes.len() - 1
        })
    }
}

/// Formats a moment in short texts.
fn texts(moment: &Moment<'_>, kernel: bool) -> Vec<String> {
    let mut texts = match (&moment.step.deed, moment.part) {
        (Deed::Call(call), Part::Enter) => vec![format!("{}…", call.name)],
        (Deed::Call(call), Part::Return) => {
            vec![format!("…{}{}", call.name, outcome(call))]
        }
        (Deed::Call(call), Part::Whole) => {
            vec![format!("{}{}", call.name, outcome(call))]
        }
        (Deed::Completed(done), _) => vec![completed(done, kernel)],
        (Deed::Signal(signal, _), _) if moment.inside => {
            vec![signal.to_string()]
        }
        (Deed::Signal(signal, _), _) => vec![format!("signal {signal}")],
        _ => Vec::new(),
    };
    if let (Some(call), false) =
        (moment.step.call(), moment.part == Part::Return)
    {
        let handed = call.submitted.iter();
        texts.extend(handed.map(|it| format!("  + {}", it.operation.name)));
    }
    let indent = if moment.inside { "  " } else { "" };
    let texts = texts.into_iter().map(|text| format!("{indent}{text}"));
    texts.flat_map(|text| broken(&text)).collect()
}

fn completed(done: &OperationStep, kernel: bool) -> String {
    let by = if kernel { "kernel: " } else { "" };
    let name = done.operation.name;
    match done.receives() {
        true => format!("{by}{name} = {}", done.answer.bytes()),
        false => format!("{by}{name}"),
    }
}

/// Formats the number of bytes, or the error.
fn outcome(call: &CallStep) -> String {
    let transfers = matches!(call.family, Family::Receive | Family::Send);
    match (call.error_name(), call.result) {
        (Some(error), _) => format!(" {error}"),
        (_, Some(result @ 1..)) if transfers => format!(" = {result}"),
        _ => String::new(),
    }
}

/// Breaks a text that is too long into two rows.
fn broken(text: &str) -> Vec<String> {
    match text.rsplit_once(' ') {
        Some((first, rest)) if text.chars().count() > LETTERS => {
            vec![first.to_owned(), format!("  {rest}")]
        }
        _ => vec![text.to_owned()],
    }
}

/// Folds repeated rows, with a count.
fn folded(rows: &[Row]) -> Vec<Row> {
    let key = |row: &Row| (!row.learns).then(|| (row.lane, row.text.clone()));
    let keys: Vec<_> = rows.iter().map(key).collect();
    let mut folded = Vec::new();
    let mut next = 0;
    for piece in fold(&keys) {
        let start = piece.range.start.max(next);
        if piece.rounds == 1 || start > piece.range.start {
            folded.extend_from_slice(
                &rows[start.min(piece.range.end)..piece.range.end],
            );
            continue;
        }
        let period = piece.range.len() / piece.rounds;
        let round = &keys[piece.range.start..piece.range.start + period];
        // The last round may be incomplete.
        let rest = keys[piece.range.end..].iter().zip(round);
        let rest = rest.take_while(|(key, same)| key == same).count();
        next = piece.range.end + rest;
        let rounds = piece.rounds + usize::from(rest > 0);
        folded.extend(round_of(&rows[piece.range][..period], rounds));
    }
    folded
}

fn round_of(rows: &[Row], rounds: usize) -> Vec<Row> {
    let mut round = rows.to_vec();
    let many = count(rounds as f64);
    if let [one] = round.as_mut_slice() {
        one.text = format!("{many} × {}", one.text);
        return round;
    }
    // The mark applies to the whole round, not only to the receiving call.
    let empty = |row: &&Row| row.bars.contains(&Bar::Eagain);
    if let Some(bars) = rows.iter().find(empty).map(|row| &row.bars) {
        round.iter_mut().for_each(|row| row.bars.clone_from(bars));
    }
    let last = round[round.len() - 1].clone();
    round.push(Row { text: format!("  {many} times"), ..last });
    round
}
