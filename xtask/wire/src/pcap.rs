//! Writes the capture as a file for tcpdump and Wireshark: a header, then each
//! packet after its own header. See draft-ietf-opsawg-pcap.

use std::io::{self, Write};

use super::capture::Frame;

/// The magic number for timestamps with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];

/// The length to which packets are truncated, which readers use as a limit.
const SNAPSHOT: u32 = 262_144;

/// LINKTYPE_ETHERNET. The loopback's packets have Ethernet headers of zeroes.
const ETHERNET: u32 = 1;

/// Writes the file. All numbers have the byte order of the magic number, here
/// little endian.
pub fn write(frames: &[Frame], mut file: impl Write) -> io::Result<()> {
    file.write_all(&MAGIC.to_le_bytes())?;
    for part in VERSION {
        file.write_all(&part.to_le_bytes())?;
    }
    // Two reserved fields, formerly the time zone and its accuracy.
    file.write_all(&[0; 8])?;
    file.write_all(&SNAPSHOT.to_le_bytes())?;
    file.write_all(&ETHERNET.to_le_bytes())?;
    for frame in frames {
        // Unsigned, so valid until 2106.
        let seconds = frame.at.as_secs() as u32;
        let length = frame.bytes.len() as u32;
        // The captured length, and the original length.
        let header = [seconds, frame.at.subsec_nanos(), length, length];
        for number in header {
            file.write_all(&number.to_le_bytes())?;
        }
        file.write_all(&frame.bytes)?;
    }
    file.flush()
}
