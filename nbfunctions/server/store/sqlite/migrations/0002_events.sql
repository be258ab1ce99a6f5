-- What signs the tokens of a project's users.
ALTER TABLE projects ADD COLUMN token_secret TEXT NOT NULL DEFAULT '';
UPDATE projects SET token_secret = lower(hex(randomblob(32)));

-- In the order in which lists go through them.
CREATE INDEX functions_of_project ON functions (project_id);
CREATE INDEX deployments_of_function ON deployments (function_seq);

-- What functions listen to, to be found by the names of an event.
CREATE TABLE listeners (
    project_id TEXT NOT NULL,
    event TEXT NOT NULL,
    function_seq INTEGER NOT NULL REFERENCES functions (seq) ON DELETE CASCADE,
    PRIMARY KEY (project_id, event, function_seq)
) WITHOUT ROWID;

CREATE INDEX listeners_of_function ON listeners (function_seq);
INSERT INTO listeners (project_id, event, function_seq)
SELECT DISTINCT f.project_id, e.value, f.seq FROM functions f, json_each(f.events) e;

ALTER TABLE deployments ADD COLUMN chunks_total INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deployments ADD COLUMN chunks_uploaded INTEGER NOT NULL DEFAULT 1;
CREATE INDEX deployments_by_id ON deployments (id);
CREATE INDEX deployments_uploading ON deployments (created_at) WHERE digest = '';

-- The oldest are found by `seq`: one index less to write for each execution.
DROP INDEX executions_created;
ALTER TABLE executions ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN synchronous INTEGER NOT NULL DEFAULT 0;
-- Executions that a user may read; those of API keys, which are most, have no reader.
CREATE INDEX executions_of_reader ON executions (function_seq, read, seq) WHERE read != '[]';

CREATE TABLE idempotency_keys (
    function_seq INTEGER NOT NULL REFERENCES functions (seq) ON DELETE CASCADE,
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (function_seq, caller, key)
) WITHOUT ROWID;

CREATE INDEX idempotency_keys_created ON idempotency_keys (created);

-- Counts of half hours that began at `start`.
CREATE TABLE usage (
    function_seq INTEGER NOT NULL REFERENCES functions (seq) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    executions INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    compute REAL NOT NULL,
    PRIMARY KEY (function_seq, start)
) WITHOUT ROWID;

CREATE INDEX usage_start ON usage (start);
