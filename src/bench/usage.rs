//! CPU and memory of a process, from outside: `/proc/PID/stat` and `status` (proc(5)).

use std::fs;

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// User and system time in µs; counted in ticks of 10 ms.
    pub cpu_us: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// `USER_HZ`: the unit of times in `/proc`, 100 on every Linux that we run on (proc(5)).
const TICK_US: u64 = 10_000;

impl Usage {
    /// Of the process `pid`; None once it is gone.
    pub fn of(pid: u32) -> Option<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in brackets and may hold anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = rss.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Usage {
            cpu_us: ticks * TICK_US,
            rss_bytes: kib << 10,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_usage_is_there_and_grows() {
        let before = Usage::of(std::process::id()).unwrap();
        assert!(before.rss_bytes > 1 << 20);
        let mut x = 1u64;
        while Usage::of(std::process::id()).unwrap().cpu_us < before.cpu_us + 2 * TICK_US {
            for i in 0..100_000 {
                x = x.wrapping_mul(31).wrapping_add(i);
            }
        }
        assert_ne!(x, 0);
        assert!(Usage::of(u32::MAX).is_none());
    }
}
