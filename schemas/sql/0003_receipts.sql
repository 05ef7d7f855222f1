-- How far users have got in chats, and what they choose to show of themselves. A
-- mark only rises, and so does last_seen: each is its own stamp. The stamps of what
-- users choose are microseconds since 1970.

-- What the others in a chat are told of a user. Seqs, 0 for none.
CREATE TABLE receipts (
    chat      TEXT    NOT NULL,
    user      TEXT    NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    read      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (chat, user)
) STRICT, WITHOUT ROWID;

ALTER TABLE chats_by_user ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0; -- a device of the user has the chat up to this seq

ALTER TABLE users ADD COLUMN reads_hidden INTEGER NOT NULL DEFAULT 0; -- 0 or 1: others are not told what it has read
ALTER TABLE users ADD COLUMN reads_hidden_stamp INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN status TEXT NOT NULL DEFAULT ''; -- that it has chosen
ALTER TABLE users ADD COLUMN status_stamp INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN last_seen INTEGER NOT NULL DEFAULT 0; -- microseconds since 1970, 0 where it is not known
