//! Datagrams and the datagrams that answer them.

mod table;

use common::answer_datagram;
use table::{DEBUG_NOT_ALLOWED, about};

/// The largest that fits into an IPv4 packet.
const LARGEST: usize = 65_507;

const INCOMPLETE: &[u8] = b"-ERR incomplete request\r\n";
const MALFORMED: &[u8] = b"-ERR malformed request\r\n";
const TOO_LARGE: &[u8] = b"-ERR reply too large for a datagram\r\n";

fn answer(datagram: &[u8]) -> Vec<u8> {
    let mut reply = vec![0; LARGEST];
    let length = answer_datagram(datagram, &about(), &mut reply);
    reply.truncate(length);
    reply
}

#[test]
fn rows() {
    let rows: &[(&str, &[u8], &[u8])] = &[
        ("nothing", b"", b""),
        ("nothing asked for", b"\r\n*0\r\n*-1\r\n \n", b""),
        ("one", b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        ("inline", b"PING\n", b"+PONG\r\n"),
        (
            "several",
            b"PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\nFOO\r\n",
            b"+PONG\r\n$2\r\nhi\r\n\
              -ERR unknown command 'FOO', with args beginning with: \r\n",
        ),
        ("quit", b"PING\r\nQUIT\r\n*x\r\n", b"+PONG\r\n+OK\r\n"),
        ("post", b"PING\r\nPOST / HTTP/1.1\r\n", b"+PONG\r\n"),
        ("no line end", b"PING", INCOMPLETE),
        ("incomplete after others", b"PING\r\n*1\r\n$4\r\nPI", INCOMPLETE),
        ("longer than the datagram", b"*1\r\n$99999999\r\nx", INCOMPLETE),
        ("a NUL in a line", b"PI\0NG\r\n", INCOMPLETE),
        ("malformed", b"*x\r\n", MALFORMED),
        ("malformed after others", b"PING\r\n*1\r\nPING\r\n", MALFORMED),
        ("not closed", b"PING \"x\r\n", MALFORMED),
        ("over Redis's limit", b"*1\r\n$536870913\r\n", MALFORMED),
        (
            "a conversation of its own",
            b"CLIENT SETNAME me\r\nCLIENT GETNAME\r\nCLIENT ID\r\n",
            b"+OK\r\n$2\r\nme\r\n:0\r\n",
        ),
        ("nothing is left of it", b"CLIENT GETNAME\r\n", b"$-1\r\n"),
        ("debug", b"DEBUG SPIN 1\r\n", DEBUG_NOT_ALLOWED),
        (
            "info once",
            b"INFO nonsense\r\n*1\r\n$4\r\niNfO\r\nPING\r\n",
            b"$0\r\n\r\n-ERR INFO is answered once a datagram\r\n+PONG\r\n",
        ),
    ];
    for (name, datagram, reply) in rows {
        assert_eq!(
            answer(datagram).escape_ascii().to_string(),
            reply.escape_ascii().to_string(),
            "{name}",
        );
    }
}

#[test]
fn replies_are_whole_or_an_error() {
    let about = about();
    for room in 0..100 {
        let mut reply = vec![b'?'; room];
        let length = answer_datagram(b"PING\nPING\n", &about, &mut reply);
        let expected: &[u8] = match room {
            0..14 => b"",
            _ => b"+PONG\r\n+PONG\r\n",
        };
        assert_eq!(&reply[..length], expected, "room for {room}");
        let message = b"ECHO 0123456789012345678901234567890123456789\n";
        let length = answer_datagram(message, &about, &mut reply);
        let expected: &[u8] = match room {
            0..37 => b"",
            37..47 => TOO_LARGE,
            _ => b"$40\r\n0123456789012345678901234567890123456789\r\n",
        };
        assert_eq!(&reply[..length], expected, "room for {room}");
    }
}

#[test]
fn the_largest_datagrams() {
    assert_eq!(answer(&b"COMMAND\n".repeat(8000)), TOO_LARGE);
    assert_eq!(answer(&vec![b'x'; LARGEST]), INCOMPLETE);
    assert_eq!(answer(&vec![b'\n'; LARGEST]), b"");
    let pings = b"PING\n".repeat(9000);
    assert_eq!(answer(&pings), b"+PONG\r\n".repeat(9000));
    let empty = [&b"*10000\r\n"[..], &b"$0\r\n\r\n".repeat(10_000)].concat();
    assert!(answer(&empty).starts_with(b"-ERR unknown command '', with"));
}
