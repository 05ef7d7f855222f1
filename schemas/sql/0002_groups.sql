-- Groups, changes of events, settings, profiles and blocks. A column whose
-- writes come from other events than its row's has a stamp of its own. Stamps of
-- what users set for themselves are microseconds since 1970.

-- What later events made of one. The stamps of body are edited and deleted.
ALTER TABLE events ADD COLUMN expires INTEGER NOT NULL DEFAULT 0; -- a time, 0 for never
ALTER TABLE events ADD COLUMN edited INTEGER NOT NULL DEFAULT 0; -- seq of the last edit
ALTER TABLE events ADD COLUMN body TEXT NOT NULL DEFAULT ''; -- JSON, the last edit's
ALTER TABLE events ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0; -- seq of the delete
ALTER TABLE events ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0; -- 0 or 1
ALTER TABLE events ADD COLUMN pinned_stamp INTEGER NOT NULL DEFAULT 0;

CREATE INDEX events_by_expiry ON events (expires) WHERE expires > 0;

ALTER TABLE chats ADD COLUMN name TEXT NOT NULL DEFAULT ''; -- a group's
ALTER TABLE chats ADD COLUMN members INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chats ADD COLUMN history TEXT NOT NULL DEFAULT ''; -- what later members may read
ALTER TABLE chats ADD COLUMN disappearing INTEGER NOT NULL DEFAULT 0; -- 0 or 1: there were messages that disappear
ALTER TABLE chats ADD COLUMN last_event TEXT NOT NULL DEFAULT ''; -- JSON, cut short
ALTER TABLE chats ADD COLUMN last_cut INTEGER NOT NULL DEFAULT 0; -- 0 or 1
ALTER TABLE chats ADD COLUMN last_prev INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chats ADD COLUMN last_expires INTEGER NOT NULL DEFAULT 0;

CREATE INDEX chats_by_expiry ON chats (last_expires) WHERE last_expires > 0 AND last_event <> '';

-- stamp is that of role, since that of itself and of visible, read that of itself and of read_n.
ALTER TABLE chats_by_user ADD COLUMN visible INTEGER NOT NULL DEFAULT 0; -- what may be read begins here
ALTER TABLE chats_by_user ADD COLUMN read INTEGER NOT NULL DEFAULT 0; -- the read mark
ALTER TABLE chats_by_user ADD COLUMN read_n INTEGER NOT NULL DEFAULT 0; -- messages up to it

-- Of groups. stamp is that of role, since that of itself and of visible.
CREATE TABLE members_by_chat (
    chat    TEXT    NOT NULL,
    user    TEXT    NOT NULL,
    stamp   INTEGER NOT NULL DEFAULT 0,
    role    TEXT    NOT NULL DEFAULT '',
    since   INTEGER NOT NULL DEFAULT 0,
    visible INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (chat, user)
) STRICT, WITHOUT ROWID;

-- What messages said from each of their edits on. The bucket is the target's.
CREATE TABLE edits (
    chat    TEXT    NOT NULL,
    bucket  INTEGER NOT NULL,
    target  INTEGER NOT NULL,
    seq     INTEGER NOT NULL, -- the edit's
    stamp   INTEGER NOT NULL,
    time    INTEGER NOT NULL,
    expires INTEGER NOT NULL, -- the target's
    body    TEXT    NOT NULL, -- JSON; empty where the target was deleted
    PRIMARY KEY (chat, bucket, target, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX edits_by_expiry ON edits (expires) WHERE expires > 0;

-- The bucket is the target's; seq is the stamp.
CREATE TABLE reactions (
    chat    TEXT    NOT NULL,
    bucket  INTEGER NOT NULL,
    target  INTEGER NOT NULL,
    emoji   TEXT    NOT NULL,
    user    TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    is_on   INTEGER NOT NULL, -- 0 or 1
    expires INTEGER NOT NULL, -- the target's
    PRIMARY KEY (chat, bucket, target, emoji, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX reactions_by_expiry ON reactions (expires) WHERE expires > 0;

-- What a user wants of a chat.
CREATE TABLE settings (
    user           TEXT    NOT NULL,
    chat           TEXT    NOT NULL,
    muted          INTEGER NOT NULL DEFAULT 0, -- 0 or 1
    muted_until    INTEGER NOT NULL DEFAULT 0, -- a time, 0 for good
    muted_stamp    INTEGER NOT NULL DEFAULT 0,
    pinned         INTEGER NOT NULL DEFAULT 0,
    pinned_stamp   INTEGER NOT NULL DEFAULT 0,
    archived       INTEGER NOT NULL DEFAULT 0,
    archived_stamp INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user, chat)
) STRICT, WITHOUT ROWID;

-- What users tell of themselves.
CREATE TABLE users (
    user         TEXT    NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL DEFAULT '',
    name_stamp   INTEGER NOT NULL DEFAULT 0,
    avatar       TEXT    NOT NULL DEFAULT '', -- id of a file
    avatar_stamp INTEGER NOT NULL DEFAULT 0,
    lang         TEXT    NOT NULL DEFAULT '',
    lang_stamp   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Two rows for each block, so that whom a user blocks and who blocks it are one read.
CREATE TABLE blocks (
    user             TEXT    NOT NULL,
    other            TEXT    NOT NULL,
    blocks           INTEGER NOT NULL DEFAULT 0, -- 0 or 1
    blocks_stamp     INTEGER NOT NULL DEFAULT 0,
    blocked_by       INTEGER NOT NULL DEFAULT 0,
    blocked_by_stamp INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user, other)
) STRICT, WITHOUT ROWID;
