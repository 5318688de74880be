//! Describes the machine, its settings and the commands, on which the figures
//! depend.

use std::fs;
use std::process::Command;

use lab::model::Workspace;
use nix::sys::resource::{Resource, getrlimit};

use super::trial::Processors;

/// Settings that limit the number of clients, or affect how they are served.
const SYSCTLS: [&str; 15] = [
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.pid_max",
    "kernel.threads-max",
    "net.core.default_qdisc",
    "net.core.rmem_default",
    "net.core.somaxconn",
    "net.core.wmem_default",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
];

const LIMITS: [(&str, Resource); 3] = [
    ("open files", Resource::RLIMIT_NOFILE),
    ("processes", Resource::RLIMIT_NPROC),
    ("signals pending", Resource::RLIMIT_SIGPENDING),
];

/// Returns names and values, without values that can't be read.
pub fn describe(
    workspace: &Workspace,
    processors: Processors,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        let value = value.map(|value| value.trim().to_owned());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.push((name.to_owned(), value));
        }
    };
    add("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
    add("command", Some(command_line()));
    add("commit", commit(workspace));
    add("compiler", said("rustc", &["--version"]));
    add("kernel", said("uname", &["-srvm"]));
    add("processor", cpuinfo("model name"));
    add("hypervisor", said("systemd-detect-virt", &[]));
    let sys = "/sys/devices/system/cpu";
    add("processors online", read(&format!("{sys}/online")));
    add("processor placement", Some(placement(processors)));
    let generator = format!("{sys}/cpu{}", processors.generator);
    let siblings = format!("{generator}/topology/thread_siblings_list");
    add("on the generator's core", read(&siblings));
    add("memory", meminfo());
    let governor = format!("{generator}/cpufreq/scaling_governor");
    add("frequency governor", read(&governor));
    for name in ["spectre_v2", "meltdown", "mds"] {
        let path = format!("{sys}/vulnerabilities/{name}");
        add(&format!("mitigation of {name}"), read(&path));
    }
    add("load average before", read("/proc/loadavg"));
    for (name, resource) in LIMITS {
        let limits = getrlimit(resource).ok();
        add(
            &format!("limit on {name}"),
            limits.map(|(soft, hard)| {
                format!("{} soft, {} hard", limit(soft), limit(hard))
            }),
        );
    }
    add("cgroup pids.max", read("/sys/fs/cgroup/pids.max"));
    add("cgroup cpu.max", read("/sys/fs/cgroup/cpu.max"));
    for name in SYSCTLS {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        add(name, read(&path).map(|value| value.replace('\t', " ")));
    }
    found
}

fn placement(processors: Processors) -> String {
    match (processors.servers, processors.count) {
        (None, _) => "everything on one processor".to_owned(),
        (Some(_), 1) => {
            "servers on one processor, the load generator on another".to_owned()
        }
        (Some(_), count) => format!(
            "servers on {count} processors, the load generator on another"
        ),
    }
}

fn command_line() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", arguments.join(" "))
}

/// Returns the current commit, and whether there are uncommitted changes.
fn commit(workspace: &Workspace) -> Option<String> {
    let root = workspace.root.as_str();
    let commit = said("git", &["-C", root, "rev-parse", "--short=12", "HEAD"]);
    let changes = said("git", &["-C", root, "status", "--porcelain"]);
    let changed = changes.is_some_and(|changes| !changes.trim().is_empty());
    let changed = if changed { ", with uncommitted changes" } else { "" };
    commit.map(|commit| format!("{}{changed}", commit.trim()))
}

fn cpuinfo(key: &str) -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.to_owned())
}

fn meminfo() -> Option<String> {
    let text = read("/proc/meminfo")?;
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.split_whitespace().next()?.parse().ok()?;
    Some(format!("{:.1} GiB", kibibytes as f64 / 1024.0 / 1024.0))
}

fn limit(value: u64) -> String {
    if value == libc::RLIM_INFINITY {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
