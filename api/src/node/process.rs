//! Processor time and memory of this process, and the memory it may use, from `/proc`.

use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

/// Ticks per second in `/proc/self/stat`: 100 on every Linux since 2.6 as far as user space can
/// see.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds used so far, user and system; `None` where there is no `/proc`.
pub fn cpu_seconds() -> Option<f64> {
    parse_cpu_seconds(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// The number that the system has for the present thread; `None` where there is no `/proc`.
pub fn thread_id() -> Option<u32> {
    let own = std::fs::read_link("/proc/thread-self").ok()?;
    own.file_name()?.to_str()?.parse().ok()
}

/// Processor seconds that a thread of this process used so far; `None` if it ended, or where there
/// is no `/proc`.
pub fn thread_cpu_seconds(id: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat"));
    parse_cpu_seconds(&stat.ok()?)
}

/// Resident memory in bytes; `None` where there is no `/proc`.
pub fn resident_bytes() -> Option<f64> {
    parse_kilobytes(
        &std::fs::read_to_string("/proc/self/status").ok()?,
        "VmRSS:",
    )
}

/// Open file descriptors; `None` where there is no `/proc`.
pub fn open_files() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

/// Most files that may be open; `None` if it is not known or there is no limit.
pub fn max_files() -> Option<f64> {
    getrlimit(Resource::Nofile)
        .current
        .map(|files| files as f64)
}

/// Virtual memory in bytes; `None` where there is no `/proc`.
pub fn virtual_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse_kilobytes(&status, "VmSize:")
}

/// Bytes that are free on the disk of a folder, for those who are not root.
pub fn free_bytes(folder: &Path) -> Option<f64> {
    let disk = statvfs(folder).ok()?;
    Some(disk.f_bavail as f64 * disk.f_frsize as f64)
}

fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything, parentheses and spaces included.
    let mut fields = stat
        .get(stat.rfind(')')? + 1..)?
        .split_ascii_whitespace()
        .skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn parse_kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// Memory of the machine in bytes, from the text of `/proc/meminfo`.
pub fn memory_total(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(
        line.trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<usize>()
            .ok()?
            * 1024,
    )
}

/// Address space that this process may use, from the text of `/proc/self/limits`; `None` if it is
/// not limited.
pub fn address_space_limit(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The files that may hold a limit of the control groups in the text of `/proc/self/cgroup`: those
/// of the group itself and of all above it, in the layouts of both versions.
pub fn memory_limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(
            group
                .ancestors()
                .map(|group| Path::new(root).join(group).join(file)),
        );
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files() {
        let stat = "12 (a) b)) S 1 12 12 0 -1 4194560 2034 0 0 0 150 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(parse_cpu_seconds(stat), Some(2.0));
        assert_eq!(parse_cpu_seconds("12 (a"), None);
        assert_eq!(
            parse_kilobytes("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"),
            Some(2_097_152.0)
        );
        assert_eq!(parse_kilobytes("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn limits_of_memory() {
        assert_eq!(
            memory_total("MemTotal:   2 kB\nMemFree: 1 kB\n"),
            Some(2048)
        );
        let limits = |soft: &str| format!("Max address space         {soft}   unlimited   bytes\n");
        assert_eq!(address_space_limit(&limits("1000")), Some(1000));
        assert_eq!(address_space_limit(&limits("unlimited")), None);
        let check = |groups: &str, expected: &[&str]| {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(memory_limit_files(groups), expected);
        };
        check(
            "0::/a/b\n",
            &[
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max",
            ],
        );
        check(
            "3:cpu,cpuacct:/x\n2:memory:/\n",
            &["/sys/fs/cgroup/memory/memory.limit_in_bytes"],
        );
        check("nonsense", &[]);
    }
}
