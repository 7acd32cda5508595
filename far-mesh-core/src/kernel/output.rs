//! A result that several threads fill, each its own part.

use std::marker::PhantomData;

/// `len` f32 that are written before they are read.
pub(super) struct Output {
    buffer: Vec<f32>,
    len: usize,
}

/// Writes into an [`Output`] or a slice from any thread.
pub(super) struct Parts<'a, T = f32> {
    start: *mut T,
    len: usize,
    _borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is used only by methods whose callers promise that no two threads touch the same element.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl Output {
    pub(super) fn new(len: usize) -> Self {
        Self { buffer: Vec::with_capacity(len), len }
    }

    pub(super) fn parts(&mut self) -> Parts<'_> {
        Parts { start: self.buffer.as_mut_ptr(), len: self.len, _borrow: PhantomData }
    }

    /// The finished result.
    ///
    /// # Safety
    /// Every element has been written.
    pub(super) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: the capacity is at least `len`, and the caller vouches for the elements.
        unsafe { self.buffer.set_len(self.len) };
        self.buffer
    }
}

impl<T> Clone for Parts<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Parts<'_, T> {}

impl<'a, T: Copy> Parts<'a, T> {
    pub(super) fn of(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), _borrow: PhantomData }
    }

    /// Copies `values` to `at..`.
    ///
    /// # Safety
    /// No other thread touches these elements meanwhile.
    #[inline(always)]
    pub(super) unsafe fn write(self, at: usize, values: &[T]) {
        assert!(at <= self.len && values.len() <= self.len - at, "part of a result lies outside of it");
        // SAFETY: within the buffer as just checked; the caller has these elements for itself.
        unsafe { self.start.add(at).copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }

    /// Writes the first `len` (or fewer) of a vector's lanes to `at..`.
    ///
    /// # Safety
    /// No other thread touches these elements meanwhile.
    #[inline(always)]
    pub(super) unsafe fn write_lanes<const N: usize>(self, at: usize, lanes: &[T; N], len: usize) {
        // Apart, so that a whole vector is one store and not a call.
        // SAFETY: the caller has these elements for itself.
        unsafe { if len >= N { self.write(at, lanes) } else { self.write(at, &lanes[..len]) } }
    }

    /// The elements `at..at + len`.
    ///
    /// # Safety
    /// They have been written before, and no one else touches them while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn slice(self, at: usize, len: usize) -> &'a mut [T] {
        assert!(at <= self.len && len <= self.len - at, "part of a result lies outside of it");
        // SAFETY: within the buffer as just checked; the caller has these elements for itself.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}
