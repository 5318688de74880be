//! Level-triggered epoll reports a state, edge-triggered epoll an arrival.

use std::io::{Read as _, Write as _};

use anyhow::Result;
use nix::sys::epoll::EpollFlags;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "level-repeats",
    claim: "Level-triggered epoll reports unread data in each epoll_wait, \
            edge-triggered epoll reports it once.",
    section: "epoll, modes: LT and ET",
    criterion: "Data is sent, reported and not read. True if each of ten more \
                epoll_waits reports it in level mode and none does in edge \
                mode, and new data is reported again in edge mode. False \
                otherwise.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "fs/eventpoll.c, ep_send_events"],
    explanation: "In level mode epoll_wait puts a descriptor that it reported \
                  back on the ready list, and the next call asks the file \
                  whether it is still readable. In edge mode the descriptor \
                  leaves the list, and only the next arrival of data puts it \
                  there again.",
    run,
    file: file!(),
};

/// Calls of epoll_wait after the first report.
const MORE: usize = 10;

/// Bytes per send.
const LENGTH: usize = 8;

/// The later reports of epoll_wait, after the first.
#[derive(Debug)]
struct Reports {
    /// Of `MORE` calls while the data was not read.
    unread: usize,
    /// Of one call after it was read.
    drained: usize,
    /// Of one call after new data was sent.
    renewed: usize,
}

fn run(_: Effort) -> Result<Finding> {
    let level = reports(EpollFlags::empty())?;
    let edge = reports(EpollFlags::EPOLLET)?;
    Ok(Finding::new(
        judge(&level, &edge),
        [
            Figure::new("repeated reports, level", "", level.unread),
            Figure::new("repeated reports, edge", "", edge.unread),
            Figure::new("reports of new data, edge", "", edge.renewed),
            Figure::new("reports after reading, level", "", level.drained),
        ],
    ))
}

fn reports(mode: EpollFlags) -> Result<Reports> {
    let (mut client, mut server) = net::connection()?;
    let epoll = watch::instance([&server], mode)?;
    client.write_all(&[b'x'; LENGTH])?;
    watch::expect_one(&epoll)?;
    let mut unread = 0;
    for _ in 0..MORE {
        unread += watch::reported(&epoll)?;
    }
    server.read_exact(&mut [0; LENGTH])?;
    let drained = watch::reported(&epoll)?;
    client.write_all(&[b'y'; LENGTH])?;
    let renewed = watch::reported_soon(&epoll)?;
    Ok(Reports { unread, drained, renewed })
}

fn judge(level: &Reports, edge: &Reports) -> Answer {
    let level_repeats = level.unread == MORE && level.drained == 0;
    let edge_repeats = edge.unread > 0 || edge.renewed != 1;
    Answer::from_bool(level_repeats && !edge_repeats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_must_behave_as_claimed() {
        let reports = |unread| Reports { unread, drained: 0, renewed: 1 };
        assert_eq!(judge(&reports(10), &reports(0)), Answer::True);
        assert_eq!(judge(&reports(10), &reports(1)), Answer::False);
        assert_eq!(judge(&reports(0), &reports(0)), Answer::False);
        let silent = Reports { renewed: 0, ..reports(0) };
        assert_eq!(judge(&reports(10), &silent), Answer::False);
    }
}
