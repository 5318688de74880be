//! A column of the figure in sentences, in the same terms for all models.

use lab::number::count;

use crate::event::Signal;

/// Describes which threads wait, how the program learns of the data, and which
/// thread copies it. Calls are given by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub waits: Waits,
    pub learns: Learning,
    pub copies: Copier,
}

/// The calls in which threads are asleep when the data arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    pub main: Option<&'static str>,
    pub other: Option<&'static str>,
    /// The number of receiving calls that returned EAGAIN before.
    pub empty: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learning {
    /// A signal handler runs inside a call.
    Handler(Signal, &'static str),
    /// A call returns a completion.
    Completion(Option<&'static str>),
    /// A call returns, and another one may report which socket is ready.
    Return(&'static str, Option<&'static str>),
    /// The call that copies returns.
    Copy(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copier {
    Call(&'static str),
    Handler(&'static str),
    OtherThread(&'static str),
    /// No call: the kernel copies at any time.
    Kernel,
}

impl Account {
    pub fn sentences(&self) -> [String; 3] {
        [self.waits.sentence(), self.learns.sentence(), self.copies.sentence()]
    }
}

impl Waits {
    fn sentence(&self) -> String {
        let main = match self.main {
            Some(call) => format!("waits in {call}"),
            None => {
                let many = count(self.empty as f64);
                format!("waits in no call; {many} calls return EAGAIN")
            }
        };
        match self.other {
            Some(call) => format!("{main}; another thread, in {call}"),
            None => main,
        }
    }
}

impl Learning {
    fn sentence(&self) -> String {
        match self {
            Self::Handler(signal, call) => format!(
                "learns by the handler of {signal}, which runs inside {call}"
            ),
            Self::Completion(Some(call)) => {
                format!("learns by the completion that {call} returns")
            }
            Self::Completion(None) => "learns by a completion".to_owned(),
            Self::Return(call, Some(reader)) => format!(
                "learns by the return of {call}; {reader} says which socket"
            ),
            Self::Return(call, None) => {
                format!("learns by the return of {call}")
            }
            Self::Copy(call) => {
                format!("learns by the return of {call}, after the copy")
            }
        }
    }
}

impl Copier {
    fn sentence(&self) -> String {
        match self {
            Self::Call(call) => format!("copies in {call}"),
            Self::Handler(call) => {
                format!("copies in {call}, which the handler calls")
            }
            Self::OtherThread(call) => {
                format!("copies in {call}, on the other thread")
            }
            Self::Kernel => {
                "copies in no call: the kernel does, at any moment".to_owned()
            }
        }
    }
}
