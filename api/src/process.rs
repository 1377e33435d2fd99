//! Processor time and memory of this process, from `/proc`.

/// Ticks per second in `/proc/self/stat`: 100 on every Linux since 2.6 as far as user space can
/// see.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds used so far, user and system; `None` where there is no `/proc`.
pub fn cpu_seconds() -> Option<f64> {
    parse_cpu_seconds(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// Resident memory in bytes; `None` where there is no `/proc`.
pub fn resident_bytes() -> Option<f64> {
    parse_resident_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Open file descriptors; `None` where there is no `/proc`.
pub fn open_files() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
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

fn parse_resident_bytes(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
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
            parse_resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"),
            Some(2_097_152.0)
        );
        assert_eq!(parse_resident_bytes("Name:\tx\n"), None);
    }
}
