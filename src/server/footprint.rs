//! Gives back the memory of code that only the start needed.
//!
//! Owns: the one call that does it. Called by: `server`, once, after the member is ready. A start runs through parsing of
//! flags, recovery and set-up of every service; the kernel maps 64 KiB around each function it touches, so an idle member
//! holds some 16 MB of its own program. Dropped pages stay in the page cache, and what runs again is mapped again at the
//! price of a minor fault.
//! Invariant: only pages that are equal to the file are dropped: private, executable and never writable.

use std::fs;
use std::io;
use std::time::Duration;

use keelson_api::AppState;
use rustix::mm::{Advice, madvise};

/// By then the first requests have been answered, and what they need comes back at once.
const AFTER: Duration = Duration::from_secs(1);

/// Waits for the start to be over, then drops the code that is mapped now.
pub(super) async fn give_back_start(state: AppState) {
    state.clock.sleep(AFTER).await;
    if let Err(error) = drop_code() {
        tracing::debug!(%error, "could not give back the memory of the start");
    }
}

fn drop_code() -> io::Result<()> {
    for (start, end) in code(&fs::read_to_string("/proc/self/maps")?) {
        // SAFETY: the range is a mapping of this process as the kernel lists it, of whole pages, and nothing unmaps the
        // program or its libraries. It is private and not writable, hence equal to its file, from which the kernel
        // reads it again when it is next touched: no byte of it changes by this.
        unsafe { madvise(start as *mut _, end - start, Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// Ranges of the code of files in a table as in proc(5).
fn code(maps: &str) -> impl Iterator<Item = (usize, usize)> {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (access, file) = (fields.next()?, fields.nth(3)?);
        let address = |text| usize::from_str_radix(text, 16).ok();
        let range = (address(start)?, address(end)?);
        (access == "r-xp" && file.starts_with('/')).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_given_back() {
        let maps = "\
1000-3000 r--p 00000000 08:01 7 /bin/keelson
3000-9000 r-xp 00002000 08:01 7 /bin/keelson
9000-a000 rw-p 00008000 08:01 7 /bin/keelson
a000-b000 rwxp 00009000 08:01 7 /bin/keelson
b000-c000 r-xp 00000000 00:00 0
7ff000-800000 r-xp 00000000 00:00 0 [vdso]
";
        assert_eq!(code(maps).collect::<Vec<_>>(), [(0x3000, 0x9000)]);
    }

    #[test]
    fn the_process_goes_on_with_its_code_dropped() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(code(&maps).next().is_some(), "this program has code");
        drop_code().unwrap();
        assert_eq!(format!("{}", 6 * 7), "42");
    }
}
