//! How it was measured, and what that can't tell.

use maud::{Markup, html};

/// What the reader must know, each with a heading of some words.
const POINTS: [(&str, &str); 10] = [
    (
        "One load, one machine.",
        "The load generator is one thread; every reply is checked byte for \
         byte. Where the machine has two or more processors, one of them is \
         the generator's own and the server has the others: a single one, on \
         a machine with two. Servers with several threads or processes have \
         no more than that, so on such a machine their tables show what they \
         cost, not what they gain. On a virtual machine, or with SMT, two \
         processors may share a core.",
    ),
    (
        "Closed loop.",
        "Unless a workload says otherwise, a connection sends its next \
         request when it has the reply to the last one. A slow server slows \
         the load down, and requests that would have waited are never made: \
         its latencies look better than users would find them (coordinated \
         omission). Compare requests a second and processor time there, and \
         latency with care.",
    ),
    (
        "Open loop.",
        "Latency is measured at one rate for all, with requests due at fixed \
         times and counted from then, whether or not the server was ready. \
         That is what users would see. A server that can't sustain the rate \
         says so.",
    ),
    (
        "When the generator is the limit.",
        "It reports its own use of its processor. Where that was the limit, \
         the row says so: the server could have done more. Processor time a \
         request is still the server's own.",
    ),
    (
        "Loopback.",
        "There is no network. The sender's system call does much of the \
         receiver's protocol work, so part of each other's work is charged to \
         each other: to the generator for the server, and the other way round.",
    ),
    (
        "PING is almost no work.",
        "That is on purpose: what is left is waiting and copying, which is \
         what the models differ in. A server that does something with a \
         request will find the differences smaller in proportion.",
    ),
    (
        "Processor time.",
        "The scheduler's account of all threads and processes of the server, \
         in nanoseconds. Its parts, user and system, are counted in ticks \
         and are coarse in short runs. It falls as load rises, because more \
         is done with each wake-up: it can be compared only at similar rates.",
    ),
    (
        "Memory.",
        "It is a slope: what each of many more idle connections added. The \
         processes' part is the proportional set size, so that shared pages \
         are counted once. The kernel's part (slab, stacks, page tables) \
         counts both ends of a connection, and is the whole machine's: \
         whatever else ran there is in it. It leaves out socket inodes and \
         directory entries, which the kernel counts as reclaimable: about \
         1.7 KiB more for both ends.",
    ),
    (
        "Short runs.",
        "Runs are short, and a machine has other things to do. \
         Servers take turns, so that a drift hits all alike; the figures are \
         medians, with the least and the most beside them. Where those of two \
         servers overlap, or the medians are close, this page claims no \
         difference. With three runs \
         each, two equal servers lie apart without overlap in one case of \
         ten, by chance: a difference of a few per cent means little. Look \
         at the size.",
    ),
    (
        "Yardsticks.",
        "The bare loop receives and sends and parses nothing: a server of one \
         thread with the same calls can't cost less. One with other calls \
         can: see io_uring. redis-server does far more for a request than the \
         models do: it tells whether the order of magnitude is right. It is \
         no contest.",
    ),
];

pub fn section() -> Markup {
    html! {
        section #method {
            h2 { "Method and limits" }
            dl {
                @for (heading, text) in POINTS {
                    dt { (heading) }
                    dd { (text) }
                }
            }
            p {
                "METHODOLOGY.md, in the repository that this page was made "
                "from, has the details and the reasons."
            }
        }
    }
}
