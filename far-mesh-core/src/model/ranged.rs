//! Reading a stretch of a file without moving a cursor that others share.

use std::{fs, io};

#[cfg(unix)]
pub(super) fn read_exact_at(file: &fs::File, into: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, offset)
}

#[cfg(not(unix))]
pub(super) fn read_exact_at(mut file: &fs::File, into: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek};
    file.seek(io::SeekFrom::Start(offset))?;
    file.read_exact(into)
}
