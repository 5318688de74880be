//! The capture as a file that tcpdump and Wireshark open: a header, then each
//! packet behind a header of its own. See draft-ietf-opsawg-pcap.

use std::io::{self, Write};

use super::capture::Frame;

/// Times have nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];

/// The most that is kept of a packet; readers take it for a limit.
const SNAPSHOT: u32 = 262_144;

/// LINKTYPE_ETHERNET: the loopback's packets have such headers, of zeroes.
const ETHERNET: u32 = 1;

/// All numbers in the byte order of the magic one, here little endian.
pub fn write(frames: &[Frame], mut file: impl Write) -> io::Result<()> {
    file.write_all(&MAGIC.to_le_bytes())?;
    for part in VERSION {
        file.write_all(&part.to_le_bytes())?;
    }
    // Twice four bytes that were the time zone once.
    file.write_all(&[0; 8])?;
    file.write_all(&SNAPSHOT.to_le_bytes())?;
    file.write_all(&ETHERNET.to_le_bytes())?;
    for frame in frames {
        // Unsigned, so good until 2106.
        let seconds = frame.at.as_secs() as u32;
        let length = frame.bytes.len() as u32;
        // How long it is here, and how long it was.
        let header = [seconds, frame.at.subsec_nanos(), length, length];
        for number in header {
            file.write_all(&number.to_le_bytes())?;
        }
        file.write_all(&frame.bytes)?;
    }
    file.flush()
}
