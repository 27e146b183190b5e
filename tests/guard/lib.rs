//! What the guards of the hot paths share: the bound, and how a miss is told.
//!
//! Owns: [`Bound`]. Called by: `tests/`. Allocations are counted, not seconds: the same code gives the same numbers on any
//! machine, loaded or not, and a copy or a box that creeps into a path taken a hundred thousand times a second shows.

/// What one operation may allocate at most.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Allocations.
    pub count: f64,
    /// Bytes in them.
    pub bytes: f64,
}

impl Bound {
    /// Panics, naming the path, unless `count` allocations of `bytes` in all over `operations` keep the bound.
    ///
    /// # Panics
    /// If they do not.
    pub fn check(self, path: &str, operations: u64, count: u64, bytes: u64) {
        let per = |total: u64| total as f64 / operations as f64;
        let found = Bound { count: per(count), bytes: per(bytes) };
        println!("{path}: {:.2} allocations, {:.0} bytes per operation", found.count, found.bytes);
        assert!(
            found.count <= self.count && found.bytes <= self.bytes,
            "{path}: {found:?} per operation, bound {self:?}; if the new cost earns its place, say why where the bound is"
        );
    }
}
