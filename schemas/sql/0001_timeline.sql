-- The timeline of every chat. A row's stamp is the seq that last wrote it; a
-- write with a lower stamp changes nothing, so that redelivery and stale workers
-- are harmless. Times are nanoseconds since 1970: datetime(time / 1000000000, 'unixepoch').

-- Newest first, across buckets too: the newest page of a chat is one scan.
CREATE TABLE events (
    chat   TEXT    NOT NULL,
    bucket INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    stamp  INTEGER NOT NULL,
    prev   INTEGER NOT NULL, -- the seq before it in the chat, 0 for the first
    n      INTEGER NOT NULL, -- messages of the chat up to and including this event
    time   INTEGER NOT NULL,
    type   TEXT    NOT NULL,
    author TEXT    NOT NULL,
    id     TEXT    NOT NULL, -- the author's own
    event  TEXT    NOT NULL, -- JSON, as the log has it
    PRIMARY KEY (chat, bucket DESC, seq DESC)
) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
    chat      TEXT    NOT NULL,
    bucket    INTEGER NOT NULL,
    stamp     INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    PRIMARY KEY (chat, bucket)
) STRICT, WITHOUT ROWID;

-- What the fold of a chat's log needs to go on.
CREATE TABLE chats (
    chat          TEXT    NOT NULL PRIMARY KEY,
    stamp         INTEGER NOT NULL,
    kind          TEXT    NOT NULL,
    created       INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    last_n        INTEGER NOT NULL,
    last_time     INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- the open one, with its size:
    bucket_events INTEGER NOT NULL,
    bucket_bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE chats_by_user (
    user  TEXT    NOT NULL,
    chat  TEXT    NOT NULL,
    stamp INTEGER NOT NULL,
    role  TEXT    NOT NULL,
    since INTEGER NOT NULL, -- a seq
    PRIMARY KEY (user, chat)
) STRICT, WITHOUT ROWID;

-- How far each shard of the log is stored. It only rises: its own value is its stamp.
CREATE TABLE shards (
    shard     TEXT    NOT NULL PRIMARY KEY,
    committed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
