//! Memory as /proc shows it, in KiB.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Returns a field of /proc/meminfo.
pub fn of_machine(field: &str) -> Result<f64> {
    read("/proc/meminfo", field)
}

/// Returns a field of /proc/PID/status.
pub fn of_process(pid: Pid, field: &str) -> Result<f64> {
    read(&format!("/proc/{pid}/status"), field)
}

/// Returns what a process alone needs: its private pages that aren't backed by
/// a file, and its page tables.
pub fn private(pid: Pid) -> Result<f64> {
    let rollup = format!("/proc/{pid}/smaps_rollup");
    Ok(read(&rollup, "Private_Dirty")? + of_process(pid, "VmPTE")?)
}

/// Returns the kernel's memory for tasks: stacks, page tables and objects that
/// it can't reclaim.
pub fn of_tasks() -> Result<f64> {
    let fields = ["KernelStack", "PageTables", "SUnreclaim"];
    fields.iter().map(|field| of_machine(field)).sum()
}

/// Returns the memory of all TCP buffers, which /proc/net/sockstat has in
/// pages.
pub fn of_tcp() -> Result<f64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| line.rsplit_once("mem ")?.1.parse().ok());
    let pages: f64 = pages.context("no TCP memory in /proc/net/sockstat")?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("no page size")?;
    Ok(pages * page as f64 / 1024.0)
}

/// Fails if the machine is short of memory.
pub fn ensure_available(kibibytes: f64) -> Result<()> {
    let available = of_machine("MemAvailable")?;
    let why = format!("only {available} KiB of memory are available");
    ensure!(available >= kibibytes, lab::Unsupported::Tool(why));
    Ok(())
}

fn read(path: &str, field: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let value = text.lines().find_map(|line| {
        line.strip_prefix(field)?.strip_prefix(':')?.split_whitespace().next()
    });
    let value = value.with_context(|| format!("no {field} in {path}"))?;
    value.parse().with_context(|| format!("{field} in {path}"))
}
