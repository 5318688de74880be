//! Requests by what they ask for.

use super::End::{Ended, Open};
use super::{DEBUG_NOT_ALLOWED, Row, row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row("ping", b"ping\r\n", b"+PONG\r\n", Open),
    row("ping with a message", b"PiNg hi\r\n", b"$2\r\nhi\r\n", Open),
    row("ping with too much", b"PING a b\r\n",
        b"-ERR wrong number of arguments for 'ping' command\r\n", Open),
    row("echo", b"ECHO hello\r\n", b"$5\r\nhello\r\n", Open),
    row("echo nothing", b"ECHO\r\n",
        b"-ERR wrong number of arguments for 'echo' command\r\n", Open),
    row("echo too much", b"*3\r\n$4\r\neChO\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"-ERR wrong number of arguments for 'echo' command\r\n", Open),
    row("quit", b"QUIT\r\nPING\r\n", b"+OK\r\n", Ended),
    row("quit with more", b"PING\r\nquit now\r\n", b"+PONG\r\n+OK\r\n", Ended),
    row("post", b"PING\r\nPOST / HTTP/1.1\r\nHost: x\r\nPING\r\n",
        b"+PONG\r\n", Ended),
    row("host", b"*1\r\n$5\r\nHOST:\r\n", b"", Ended),
    row("host and a NUL", b"*1\r\n$7\r\nhost:\0x\r\n", b"", Ended),

    row("unknown", b"GET key\r\n",
        b"-ERR unknown command 'GET', with args beginning with: 'key' \r\n",
        Open),
    row("unknown alone", b"foo\r\n",
        b"-ERR unknown command 'foo', with args beginning with: \r\n", Open),
    row("unknown without a name", b"*1\r\n$0\r\n\r\n",
        b"-ERR unknown command '', with args beginning with: \r\n", Open),
    row("unknown with line ends", b"*2\r\n$3\r\na\r\n\r\n$2\r\n\n\x01\r\n",
        b"-ERR unknown command 'a  ', with args beginning with: ' \x01' \r\n",
        Open),
    row("unknown with a NUL", b"*2\r\n$5\r\nPING\0\r\n$3\r\na\0b\r\n",
        b"-ERR unknown command 'PING', with args beginning with: 'a' \r\n",
        Open),
    row("unknown and long",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxy \
          a \
          zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\
          zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz b\r\n",
        b"-ERR unknown command \
          'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'\
          , with args beginning with: 'a' \
          'zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\
          zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz' 'b' \
          \r\n", Open),

    row("unknown, nothing left to show",
        b"n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaaa b\r\n",
        b"-ERR unknown command 'n', with args beginning with: \
          'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaaa' \r\n", Open),
    row("unknown, a byte left to show",
        b"n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaa bcd\r\n",
        b"-ERR unknown command 'n', with args beginning with: \
          'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaa' 'b' \r\n", Open),

    row("hello", b"HELLO\r\n",
        b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\
          \r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\n\
          standalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        Open),
    row("hello 3 and back", b"HELLO 3\r\nCLIENT GETNAME\r\nHELLO 2\r\n",
        b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\
          \r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\n\
          standalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n\
          _\r\n\
          *14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\
          \r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\n\
          standalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        Open),
    row("hello with everything",
        b"HELLO 2 AUTH default x SETNAME me\r\n\
          CLIENT GETNAME\r\nCLIENT SETNAME ''\r\n",
        b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\
          \r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\n\
          standalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n\
          $2\r\nme\r\n+OK\r\n",
        Open),
    row("hello 4", b"HELLO 4\r\n",
        b"-NOPROTO unsupported protocol version\r\n", Open),
    row("hello 1", b"HELLO 1 nonsense\r\n",
        b"-NOPROTO unsupported protocol version\r\n", Open),
    row("hello world", b"HELLO world\r\n",
        b"-ERR Protocol version is not an integer or out of range\r\n", Open),
    row("hello 03", b"HELLO 03\r\n",
        b"-ERR Protocol version is not an integer or out of range\r\n", Open),
    row("hello, wrong user", b"HELLO 3 AUTH Default x\r\n",
        b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        Open),
    row("hello, no password", b"HELLO 3 AUTH default\r\n",
        b"-ERR Syntax error in HELLO option 'AUTH'\r\n", Open),
    row("hello, no name", b"HELLO 3 SETNAME\r\n",
        b"-ERR Syntax error in HELLO option 'SETNAME'\r\n", Open),
    row("hello, bad name", b"HELLO 3 SETNAME 'a b'\r\n",
        b"-ERR Client names cannot contain spaces, newlines or special \
          characters.\r\n", Open),
    row("hello, bad option", b"HELLO 3 \"a\\nb\"\r\n",
        b"-ERR Syntax error in HELLO option 'a b'\r\n", Open),

    row("info", b"INFO\r\n",
        b"$258\r\n# Server\r\nredis_version:7.0.0\r\n\
          model:multiplexing-epoll\r\nvariant:edge\r\npid:42\r\ntid:43\r\n\
          build:0.1.0\r\nkernel:6.1.0-test\r\n\
          \r\n# Clients\r\nclients:1\r\naccepted:2\r\nrejected:3\r\n\
          \r\n# Stats\r\nrequests:4\r\nempty_calls:6\r\n\
          datagrams:5\r\n\
          datagrams_dropped:18446744073709551615\r\n\r\n", Open),
    row("info on clients", b"info CLIENTS nonsense\r\n",
        b"$46\r\n# Clients\r\nclients:1\r\naccepted:2\r\nrejected:3\r\n\r\n",
        Open),
    row("info on nothing", b"INFO nonsense\r\n", b"$0\r\n\r\n", Open),

    row("client alone", b"CLIENT\r\n",
        b"-ERR wrong number of arguments for 'client' command\r\n", Open),
    row("client, unknown", b"client foo bar\r\n",
        b"-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n", Open),
    row("client id", b"CLIENT ID\r\n", b":7\r\n", Open),
    row("client id too much", b"CLIENT ID x\r\n",
        b"-ERR wrong number of arguments for 'client|id' command\r\n", Open),
    row("client getname", b"CLIENT GETNAME\r\n", b"$-1\r\n", Open),
    row("client setname",
        b"CLIENT SETNAME me\r\nCLIENT GETNAME\r\n\
          *3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$0\r\n\r\nCLIENT GETNAME\r\n",
        b"+OK\r\n$2\r\nme\r\n+OK\r\n$-1\r\n", Open),
    row("client setname, long",
        b"CLIENT SETNAME 0123456789abcdefghijklmnop\r\nCLIENT GETNAME\r\n\
          CLIENT SETNAME ''\r\n",
        b"+OK\r\n$16\r\n0123456789abcdef\r\n+OK\r\n", Open),
    row("client setname, bad", b"CLIENT SETNAME \"a\\xff\"\r\n",
        b"-ERR Client names cannot contain spaces, newlines or special \
          characters.\r\n", Open),
    row("client no-evict", b"CLIENT NO-EVICT On\r\nCLIENT NO-EVICT off\r\n",
        b"+OK\r\n+OK\r\n", Open),
    row("client no-evict, bad", b"CLIENT NO-EVICT maybe\r\n",
        b"-ERR syntax error\r\n", Open),
    row("client setinfo",
        b"CLIENT SETINFO LIB-NAME x\r\nCLIENT SETINFO lib-ver 1.0\r\n",
        b"+OK\r\n+OK\r\n", Open),
    row("client setinfo, bad", b"CLIENT SETINFO LIB-NAME 'a b'\r\n",
        b"-ERR lib-name cannot contain spaces, newlines or special \
          characters.\r\n", Open),
    row("client setinfo, unknown", b"CLIENT SETINFO LIB x\r\n",
        b"-ERR Unrecognized option 'LIB'\r\n", Open),

    row("config help", b"CONFIG HELP\r\n",
        b"*5\r\n+CONFIG <subcommand> [<arg> [value] [opt] ...]. \
          Subcommands are:\r\n+GET <pattern> [<pattern> ...]\r\n\
          +    Show the settings that match a pattern.\r\n\
          +HELP\r\n+    Prints this help.\r\n", Open),
    row("config get", b"CONFIG GET save\r\nCONFIG GET AppendOnly\r\n",
        b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n\
          *2\r\n$10\r\nAppendOnly\r\n$2\r\nno\r\n", Open),
    row("config get by pattern", b"CONFIG GET *E* nonsense [\r\n",
        b"*6\r\n$10\r\nappendonly\r\n$2\r\nno\r\n$9\r\ndatabases\r\n$1\r\n1\
          \r\n$4\r\nsave\r\n$0\r\n\r\n", Open),
    row("config get nothing", b"CONFIG GET nonsense\r\n", b"*0\r\n", Open),
    row("config alone", b"CONFIG\r\n",
        b"-ERR wrong number of arguments for 'config' command\r\n", Open),
    row("config get alone", b"CONFIG GET\r\n",
        b"-ERR wrong number of arguments for 'config|get' command\r\n", Open),
    row("config, unknown", b"config fOO\r\n",
        b"-ERR unknown subcommand 'fOO'. Try CONFIG HELP.\r\n", Open),

    row("command count", b"COMMAND COUNT\r\n", b":9\r\n", Open),
    row("command docs", b"COMMAND DOCS\r\nCOMMAND DOCS ping\r\n",
        b"*0\r\n*0\r\n", Open),
    row("command info", b"COMMAND INFO ping nonsense client|id\r\n",
        b"*3\r\n*10\r\n$4\r\nping\r\n:-1\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n\
          *0\r\n*0\r\n*0\r\n*0\r\n$-1\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n*3\
          \r\n+noscript\r\n+loading\r\n+stale\r\n:0\r\n:0\r\n:0\r\n\
          *0\r\n*0\r\n*0\r\n*0\r\n", Open),
    row("command list, filtered", b"COMMAND LIST FILTERBY MODULE x\r\n",
        b"-ERR syntax error\r\n", Open),
    row("command getkeys", b"COMMAND GETKEYS ECHO x\r\n",
        b"-ERR The command has no key arguments\r\n", Open),
    row("command getkeys, unknown", b"COMMAND GETKEYS FOO x\r\n",
        b"-ERR Invalid command specified\r\n", Open),
    row("debug", b"DEBUG SLEEP 0\r\n", DEBUG_NOT_ALLOWED, Open),
    row("debug alone", b"DEBUG\r\n",
        b"-ERR wrong number of arguments for 'debug' command\r\n", Open),
    row("command, unknown", b"COMMAND FOO\r\n",
        b"-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n", Open),
];
