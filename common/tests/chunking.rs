//! How input is cut into pieces makes no difference.

mod table;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use table::{feed, rows};

/// A request as a client library writes it.
fn multibulk() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec![
        "PING", "ECHO", "HELLO", "CLIENT", "CONFIG", "COMMAND", "INFO", "GET",
    ]);
    (name, vec(argument(), 0..4)).prop_map(|(name, arguments)| {
        let mut request = format!("*{}\r\n", arguments.len() + 1).into_bytes();
        let name = name.as_bytes();
        for argument in
            [name].into_iter().chain(arguments.iter().map(|a| &a[..]))
        {
            let header = format!("${}\r\n", argument.len());
            request.extend_from_slice(header.as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        request
    })
}

fn argument() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "", "2", "3", "ID", "SETNAME", "GETNAME", "AUTH", "GET", "*", "save",
        "LIST", "default",
    ]);
    prop_oneof![
        known.prop_map(|known| known.as_bytes().to_vec()),
        vec(any::<u8>(), 0..40),
    ]
}

/// Bytes that mean something, in any order.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(select(b"*$\r\n\r\n0123-\"'\\x \t\0PINGquit".to_vec()), 0..30)
}

fn row() -> impl Strategy<Value = Vec<u8>> {
    select(rows()).prop_map(|row| row.input.to_vec())
}

/// One byte of a stream set to something else.
type Mutation = (Index, u8);

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![4 => multibulk(), 4 => row(), 1 => noise()];
    let mutation = (any::<Index>(), select(b"\r\n*$09-\"' \0x".to_vec()));
    (vec(part, 0..8), vec(mutation, 0..3))
        .prop_map(|(parts, mutations)| mutate(parts.concat(), &mutations))
}

fn mutate(mut stream: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for (place, byte) in mutations {
        if !stream.is_empty() {
            let place = place.index(stream.len());
            stream[place] = *byte;
        }
    }
    stream
}

/// Cuts a stream into pieces of these lengths, over and over.
fn cut<'a>(mut stream: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        let (piece, rest) = stream.split_at(stream.len().min(*length));
        pieces.push(piece);
        stream = rest;
        if stream.is_empty() {
            break;
        }
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn changes_nothing(
        stream in stream(),
        lengths in vec(1_usize..50, 1..10),
    ) {
        let whole = feed([&stream[..]]);
        prop_assert_eq!(&feed(stream.chunks(1)), &whole);
        prop_assert_eq!(&feed(cut(&stream, &lengths)), &whole);
    }

    /// A reply comes as soon as its request is complete, however the input was
    /// cut.
    #[test]
    fn replies_come_at_once(stream in stream(), place in any::<Index>()) {
        let place = place.index(stream.len() + 1);
        let early = feed([&stream[..place]]);
        let whole = feed([&stream[..]]);
        prop_assert!(whole.output.starts_with(&early.output));
        prop_assert!(whole.completed >= early.completed);
    }
}
