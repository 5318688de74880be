//! One model's column of the figure: what its threads called, in order, and
//! in which state they were meanwhile. Not to scale: a call is a row.

use std::time::Duration;

use nix::unistd::Pid;

use crate::compare::number::count;
use crate::trace::decode::Family;
use crate::trace::fold::fold;
use crate::trace::lines::is_housekeeping;
use crate::trace::phases::{Phases, asks_in_vain};
use crate::trace::roles::Role;
use crate::trace::scene::Marks;
use crate::trace::steps::{CallStep, Deed, Done, Step};

/// As long as a row's text may be.
pub const LETTERS: usize = 16;

/// How the text of a call ends that found nothing.
const NOTHING: &str = " EAGAIN";

/// The parts of the scene, from top to bottom.
pub const BANDS: usize = 4;

/// What happens in each, in two parts: each has the room of a column.
pub const BAND_TITLES: [(&str, &str); BANDS] = [
    ("a client comes", ""),
    ("phase 1: waiting", "100 ms without data"),
    ("phase 2: copying", "the data is there"),
    ("the reply", ""),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub title: String,
    pub bands: [Vec<Row>; BANDS],
    pub said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub text: String,
    /// The state of each thread, the main one first.
    pub bars: Vec<Bar>,
    /// Whose row it is, of these.
    pub lane: usize,
    /// Here the kernel copies by itself, without a call for it.
    pub kernel: bool,
    /// Here the application learns of the data.
    pub told: bool,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// It is not there yet.
    Absent,
    Running,
    /// Asleep in a call without which it would not learn of the data.
    Blocked,
    /// Asleep for want of other work: it would be told all the same.
    Idle,
    /// In a call that finds nothing.
    Asking,
    /// In the call that copies.
    Copying,
}

/// The column in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub waits: String,
    pub copies: String,
    pub told: String,
}

impl Column {
    /// None where the trace does not show the request.
    pub fn new(title: &str, steps: &[Step], marks: &Marks) -> Option<Self> {
        let phases = Phases::find(steps, marks)?;
        let moments = moments(steps, marks, &phases);
        let told = told(&moments, &phases);
        let mut maker = Maker::new(&phases, told);
        for (place, moment) in moments.iter().enumerate() {
            maker.take(place, moment, marks);
        }
        let said = said(&maker, &moments, &phases);
        let mut bands = maker.bands;
        // Questions that were asked before the client came.
        let come = bands[0].iter().position(|row| !row.text.ends_with(NOTHING));
        bands[0].drain(..come.unwrap_or(0));
        let bands = bands.map(|rows| folded(&rows));
        Some(Self { title: title.to_owned(), bands, said })
    }
}

/// A step, or one end of a step that something lies within.
#[derive(Clone, Copy, Debug)]
struct Moment<'a> {
    at: Duration,
    index: usize,
    step: &'a Step,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Enter,
    Return,
}

/// From the client's coming to the sending of the reply; calls in which
/// threads were asleep when the client came or sent are in two parts.
fn moments<'a>(
    steps: &'a [Step],
    marks: &Marks,
    phases: &Phases,
) -> Vec<Moment<'a>> {
    let all = steps.iter().enumerate().skip(phases.copier);
    let mut replies = all.filter(|(_, step)| replies(step));
    let last = replies.next().map_or(steps.len(), |(index, _)| index);
    let mut moments = Vec::new();
    for (index, step) in steps.iter().enumerate().take(last + 1) {
        let moment = |at, part| Moment { at, index, step, part };
        let is_split = step.call().is_some()
            && (sleeps_at(step, marks.connecting)
                || sleeps_at(step, marks.sending));
        let is_over = step.until.unwrap_or(step.at) < marks.connecting;
        if !is_shown(step) || is_over {
            continue;
        }
        if is_split {
            moments.push(moment(step.at, Part::Enter));
            let end = steps.get(last).map(|step| step.at);
            moments.extend(
                step.until
                    .filter(|until| end.is_none_or(|end| *until <= end))
                    .map(|until| moment(until, Part::Return)),
            );
        } else {
            moments.push(moment(step.at, Part::Whole));
        }
    }
    moments.sort_by_key(|moment| moment.at);
    moments
}

/// A call that takes no longer than this is not asleep.
const SHORT: Duration = Duration::from_millis(5);

fn sleeps_at(step: &Step, mark: Duration) -> bool {
    let until = step.until.unwrap_or(Duration::MAX);
    step.at < mark && until >= mark && until - step.at > SHORT
}

/// Whether a step sends the reply.
fn replies(step: &Step) -> bool {
    step.call().is_some_and(|call| {
        let sends = call.family == Family::Send
            && call.role().is_some_and(Role::carries_requests)
            && call.result.is_some_and(|result| result > 0);
        sends || call.submitted.iter().any(|(name, _)| name.starts_with("send"))
    })
}

/// Calls for memory and the like say nothing of input or output; nor do those
/// by which a library's threads keep out of each other's way, or the question
/// whether there are more signals.
fn is_shown(step: &Step) -> bool {
    match &step.deed {
        Deed::Call(call) => {
            let more_signals = call.family == Family::Signals
                && call.result.is_some_and(|result| result < 0);
            let between_threads = call.family == Family::Thread;
            !more_signals && !between_threads && !is_housekeeping(call)
        }
        Deed::Completed(done) => {
            done.operation.starts_with("recv") || done.operation == "accept"
        }
        Deed::Signal(..) => true,
        Deed::Started(_) | Deed::Executed | Deed::Ended(_) => false,
    }
}

/// The moment at which the application learns of the data: by a signal, by
/// the end of a wait, or by having it.
fn told(moments: &[Moment<'_>], phases: &Phases) -> Option<usize> {
    let arrival = phases.waiting.1;
    let later = |moment: &Moment<'_>| moment.at >= arrival;
    let signal = |moment: &Moment<'_>| match &moment.step.deed {
        Deed::Signal(_, Some(role)) => role.carries_requests(),
        // Of a library that has copied.
        Deed::Signal(signal, None) => signal.sender == Some(moment.step.pid),
        _ => false,
    };
    let wait = |moment: &Moment<'_>| {
        Some(moment.index) == phases.waiter && moment.part == Part::Return
    };
    let copy = |moment: &Moment<'_>| {
        moment.index == phases.copier && moment.part != Part::Enter
    };
    let find = |is: &dyn Fn(&Moment<'_>) -> bool| {
        moments.iter().position(|moment| later(moment) && is(moment))
    };
    // The call that copies may have begun a moment before there was data.
    let copied = || moments.iter().position(copy);
    find(&signal).or_else(|| find(&wait)).or_else(copied)
}

/// Makes rows.
#[derive(Debug)]
struct Maker<'a> {
    phases: &'a Phases,
    /// The place of a moment.
    told: Option<usize>,
    /// Threads, and what each is doing.
    lanes: Vec<(Pid, Bar)>,
    bands: [Vec<Row>; BANDS],
    copied: bool,
}

impl<'a> Maker<'a> {
    fn new(phases: &'a Phases, told: Option<usize>) -> Self {
        let bands = std::array::from_fn(|_| Vec::new());
        Self { phases, told, lanes: Vec::new(), bands, copied: false }
    }

    fn take(&mut self, place: usize, moment: &Moment<'_>, marks: &Marks) {
        let copies =
            moment.index == self.phases.copier && moment.part != Part::Enter;
        let lane = self.lane(moment.step.tid);
        let (now, after) = match (&moment.step.deed, moment.part) {
            (Deed::Call(call), Part::Enter) => (sleep(call), sleep(call)),
            (Deed::Call(_), _) if copies => (Bar::Copying, Bar::Running),
            (Deed::Call(_), Part::Return) => (Bar::Running, Bar::Running),
            (Deed::Call(call), _) if asks_in_vain(call) => {
                (Bar::Asking, Bar::Running)
            }
            (Deed::Call(_), _) => (Bar::Running, Bar::Running),
            _ => (self.lanes[lane].1, self.lanes[lane].1),
        };
        self.lanes[lane].1 = now;
        let told = self.told == Some(place);
        let after_all = self.copied && self.told.is_none_or(|it| it < place);
        let (since, arrival) = self.phases.waiting;
        let band = match moment.at {
            _ if after_all => 3,
            _ if copies => 2,
            at if at >= arrival => 2,
            at if at >= since => 1,
            _ => 0,
        };
        let came_before = moment.part == Part::Enter;
        if moment.at >= marks.connecting || !came_before {
            let kernel = copies && moment.step.call().is_none();
            let bars: Vec<_> = self.lanes.iter().map(|(_, bar)| *bar).collect();
            for (part, text) in texts(moment).into_iter().enumerate() {
                let first = part == 0;
                self.bands[band].push(Row {
                    text,
                    bars: bars.clone(),
                    lane,
                    kernel: kernel && first,
                    told: told && first,
                });
            }
        }
        self.copied |= copies;
        self.lanes[lane].1 = after;
    }

    fn lane(&mut self, tid: Pid) -> usize {
        let known = self.lanes.iter().position(|(other, _)| *other == tid);
        known.unwrap_or_else(|| {
            self.lanes.push((tid, Bar::Running));
            self.lanes.len() - 1
        })
    }
}

/// How a thread sleeps in this call. Who waits for signals or completions
/// alone may do something else: they come in any case.
fn sleep(call: &CallStep) -> Bar {
    let only_signals = !call.roles.is_empty()
        && call.roles.iter().all(|role| matches!(role, Role::Signals(_)));
    match call.family {
        Family::Signals | Family::Ring => Bar::Idle,
        Family::Readiness if only_signals => Bar::Idle,
        _ => Bar::Blocked,
    }
}

/// A moment in words, short ones.
fn texts(moment: &Moment<'_>) -> Vec<String> {
    let mut texts = match (&moment.step.deed, moment.part) {
        (Deed::Call(call), Part::Enter) => vec![format!("{}…", call.name)],
        (Deed::Call(call), Part::Return) => {
            vec![format!("…{}{}", call.name, outcome(call))]
        }
        (Deed::Call(call), Part::Whole) => {
            vec![format!("{}{}", call.name, outcome(call))]
        }
        (Deed::Completed(done), _) => vec![completed(done)],
        (Deed::Signal(signal, _), _) => vec![format!("signal {signal}")],
        _ => Vec::new(),
    };
    if let (Some(call), false) =
        (moment.step.call(), moment.part == Part::Return)
    {
        let handed_over = call.submitted.iter();
        texts.extend(handed_over.map(|(name, _)| format!("  + {name}")));
    }
    texts.into_iter().flat_map(|text| broken(&text)).collect()
}

fn completed(done: &Done) -> String {
    match done.operation {
        "accept" => "accept completed".to_owned(),
        name => format!("kernel: {name} = {}", done.bytes),
    }
}

/// How many bytes, or which error.
fn outcome(call: &CallStep) -> String {
    let name = call.outcome.split(',').next().unwrap_or_default();
    match (call.result, call.family) {
        (Some(result), _) if result < 0 => format!(" {name}"),
        (Some(result), Family::Receive | Family::Send) if result > 0 => {
            format!(" = {result}")
        }
        _ => String::new(),
    }
}

/// What is too long goes on in a row of its own.
fn broken(text: &str) -> Vec<String> {
    match text.rsplit_once(' ') {
        Some((first, rest)) if text.chars().count() > LETTERS => {
            vec![first.to_owned(), format!("  {rest}")]
        }
        _ => vec![text.to_owned()],
    }
}

/// What repeats itself once, with a count.
fn folded(rows: &[Row]) -> Vec<Row> {
    let key = |row: &Row| (!row.told).then(|| (row.lane, row.text.clone()));
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
        // A last round that was broken off.
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
    // All of it asks, not only the call that asks for data.
    let asks = |row: &&Row| row.bars.contains(&Bar::Asking);
    if let Some(bars) = rows.iter().find(asks).map(|row| &row.bars) {
        round.iter_mut().for_each(|row| row.bars.clone_from(bars));
    }
    let last = round[round.len() - 1].clone();
    round.push(Row { text: format!("  {many} times"), ..last });
    round
}

fn said(maker: &Maker<'_>, moments: &[Moment<'_>], phases: &Phases) -> Said {
    let main = maker.lanes.first().map(|(tid, _)| *tid);
    let is_main = |step: &Step| Some(step.tid) == main;
    // Who is in which call when the data comes.
    let arrival = phases.waiting.1;
    let sleeping = |mains: bool| {
        let mut all = moments.iter().filter_map(|moment| {
            let is_asleep = sleeps_at(moment.step, arrival);
            let is_wanted = is_main(moment.step) == mains;
            moment.step.call().filter(|_| is_asleep && is_wanted)
        });
        all.next()
    };
    let mut waits = match sleeping(true) {
        None => format!("asks {} times in vain", count(phases.in_vain as f64)),
        Some(call) if sleep(call) == Bar::Idle => {
            format!("free; rests in {}", call.name)
        }
        Some(call) => format!("asleep in {}", call.name),
    };
    if let Some(call) = sleeping(false) {
        waits += &format!("; another thread is asleep in {}", call.name);
    }
    let copy = moments.iter().find(|moment| moment.index == phases.copier);
    let copies = match copy.map(|moment| (moment.step, &moment.step.deed)) {
        Some((step, Deed::Call(call))) if is_main(step) => {
            format!("{} copies", call.name)
        }
        Some((_, Deed::Call(call))) => {
            format!("{} copies, on the other thread", call.name)
        }
        _ => "the kernel copies, before it tells".to_owned(),
    };
    let first_copy = moments.iter().position(|moment| {
        moment.index == phases.copier && moment.part != Part::Enter
    });
    let told = match maker.told < first_copy {
        true => "told that there is data",
        false => "told when it has been copied",
    };
    Said { waits, copies, told: told.to_owned() }
}
