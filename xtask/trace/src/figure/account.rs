//! A column in words, in the terms of all models.

use std::fmt;

use lab::number::count;

use crate::event::Signal;

/// Says who waits, how the program learns of the data, and who copies it.
/// Calls go by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub waits: Waits,
    pub learns: Learning,
    pub copies: Copier,
}

/// In which calls threads are asleep when the data comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    pub main: Option<&'static str>,
    pub other: Option<&'static str>,
    /// How many receiving calls returned EAGAIN before.
    pub empty: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learning {
    /// A signal's handler runs inside of a call.
    Handler(Signal, &'static str),
    /// A call returns a completion.
    Completion(Option<&'static str>),
    /// A call returns, and another one may say which socket it is about.
    Return(&'static str, Option<&'static str>),
    /// The call that copies returns.
    Copy(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copier {
    Call(&'static str),
    Handler(&'static str),
    OtherThread(&'static str),
    /// No call: the kernel copies at any moment.
    Kernel,
}

impl Account {
    pub fn sentences(&self) -> [String; 3] {
        let Self { waits, learns, copies } = self;
        [waits.to_string(), learns.to_string(), copies.to_string()]
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.main {
            Some(call) => write!(f, "waits in {call}")?,
            None => {
                let many = count(self.empty as f64);
                write!(f, "waits in no call; {many} calls return EAGAIN")?;
            }
        }
        match self.other {
            Some(call) => write!(f, "; another thread, in {call}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Learning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(signal, call) => write!(
                f,
                "learns by the handler of {signal}, which runs inside {call}"
            ),
            Self::Completion(Some(call)) => {
                write!(f, "learns by the completion that {call} returns")
            }
            Self::Completion(None) => write!(f, "learns by a completion"),
            Self::Return(call, Some(reader)) => write!(
                f,
                "learns by the return of {call}; {reader} says which socket"
            ),
            Self::Return(call, None) => {
                write!(f, "learns by the return of {call}")
            }
            Self::Copy(call) => {
                write!(f, "learns by the return of {call}, after the copy")
            }
        }
    }
}

impl fmt::Display for Copier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call) => write!(f, "copies in {call}"),
            Self::Handler(call) => {
                write!(f, "copies in {call}, which the handler calls")
            }
            Self::OtherThread(call) => {
                write!(f, "copies in {call}, on the other thread")
            }
            Self::Kernel => {
                f.write_str("copies in no call: the kernel does, at any moment")
            }
        }
    }
}
