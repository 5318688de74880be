//! An allocator that counts for each thread, and refuses if it's told to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// The system's allocator, watched.
pub(crate) struct Counting;

/// The allocations of the calling thread.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    /// Blocks asked for or resized.
    pub(crate) allocations: usize,
    /// Bytes in them, whatever came of them.
    pub(crate) asked: usize,
    /// Bytes now held.
    pub(crate) held: isize,
}

thread_local! {
    static COUNTS: Cell<Counts> =
        const { Cell::new(Counts { allocations: 0, asked: 0, held: 0 }) };
    /// No block is larger.
    static LARGEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

pub(crate) fn counts() -> Counts {
    COUNTS.get()
}

/// Runs something on a machine that has no block of memory over a size.
pub(crate) fn with_blocks_up_to<T>(
    largest: usize,
    run: impl FnOnce() -> T,
) -> T {
    LARGEST.set(largest);
    let result = run();
    LARGEST.set(usize::MAX);
    result
}

fn count(asked: usize, held: isize) {
    let mut counts = COUNTS.get();
    counts.allocations += usize::from(asked > 0);
    counts.asked += asked;
    counts.held += held;
    COUNTS.set(counts);
}

// SAFETY: every block comes from `System`, unchanged, and goes back to it with
// the layout it came with. Counting allocates nothing: the cells are in place
// before the thread's first instruction and need no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST.get() {
            return ptr::null_mut();
        }
        count(layout.size(), layout.size().cast_signed());
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is
        // the same for `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -layout.size().cast_signed());
        // SAFETY: the caller got `block` with this layout from `alloc` or
        // `realloc` above, which got it from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(
        &self,
        block: *mut u8,
        layout: Layout,
        size: usize,
    ) -> *mut u8 {
        if size > LARGEST.get() {
            return ptr::null_mut();
        }
        let more = size.cast_signed() - layout.size().cast_signed();
        count(size, more);
        // SAFETY: as for `dealloc`; the caller answers for `size`.
        unsafe { System.realloc(block, layout, size) }
    }
}
