-- `seq` is the order of creation, which lists follow. What belongs to a function points at its `seq`, which is never
-- given twice, so that a function made anew under an old id inherits nothing. Big texts stand last in their tables: a row's
-- other columns are then read without them.

CREATE TABLE projects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE keys (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id TEXT NOT NULL REFERENCES projects (id),
    id TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (project_id, id),
    UNIQUE (project_id, secret_hash)
);

CREATE TABLE functions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id TEXT NOT NULL REFERENCES projects (id),
    id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    execute TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    runtime TEXT NOT NULL,
    deployment TEXT NOT NULL,
    events TEXT NOT NULL,
    schedule TEXT NOT NULL,
    schedule_next INTEGER NOT NULL,
    schedule_previous INTEGER NOT NULL,
    timeout INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    concurrency INTEGER NOT NULL,
    words TEXT NOT NULL, -- what a search looks at
    vars TEXT NOT NULL,
    UNIQUE (project_id, id)
);

CREATE INDEX functions_scheduled ON functions (schedule_next) WHERE schedule_next > 0;

CREATE TABLE deployments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    function_seq INTEGER NOT NULL REFERENCES functions (seq) ON DELETE CASCADE,
    id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    entrypoint TEXT NOT NULL,
    size INTEGER NOT NULL,
    activate INTEGER NOT NULL,
    digest TEXT NOT NULL, -- empty until its upload is complete
    waits INTEGER NOT NULL, -- 1 while nobody has taken it for a build
    words TEXT NOT NULL,
    UNIQUE (function_seq, id)
);

CREATE INDEX deployments_waiting ON deployments (seq) WHERE waits = 1;
CREATE INDEX deployments_of_digest ON deployments (digest);

CREATE TABLE builds (
    deployment_seq INTEGER PRIMARY KEY REFERENCES deployments (seq) ON DELETE CASCADE,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    start_time REAL NOT NULL,
    end_time REAL NOT NULL, -- 0 until it ended
    owner TEXT NOT NULL,
    lease_until REAL NOT NULL,
    output TEXT NOT NULL,
    stdout TEXT NOT NULL,
    stderr TEXT NOT NULL
);

CREATE INDEX builds_building ON builds (lease_until) WHERE status = 'building';

-- An execution whose function is gone is gone: every question joins the function. Its row is deleted a little later,
-- because a function may have more of them than one commit should delete.
CREATE TABLE executions (
    seq INTEGER PRIMARY KEY,
    function_seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    created REAL NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    read TEXT NOT NULL,
    "trigger" TEXT NOT NULL,
    status TEXT NOT NULL,
    status_code INTEGER NOT NULL DEFAULT 0,
    time REAL NOT NULL DEFAULT 0,
    deployment_id TEXT NOT NULL,
    response_type TEXT NOT NULL DEFAULT 'text',
    layer TEXT NOT NULL DEFAULT '',
    cold INTEGER NOT NULL DEFAULT 0,
    queued REAL NOT NULL DEFAULT 0,
    owner TEXT NOT NULL,
    lease_until REAL NOT NULL,
    user_id TEXT NOT NULL,
    event TEXT NOT NULL,
    data TEXT NOT NULL,
    event_data TEXT NOT NULL,
    response TEXT NOT NULL DEFAULT '',
    stderr TEXT NOT NULL DEFAULT '',
    stdout TEXT NOT NULL DEFAULT '',
    UNIQUE (function_seq, id)
);

CREATE INDEX executions_of_function ON executions (function_seq);
CREATE INDEX executions_created ON executions (created);
-- The queue: rows leave these two indexes when they end, so that they stay as small as what is under way.
CREATE INDEX executions_waiting ON executions (function_seq, seq) WHERE status = 'waiting';
CREATE INDEX executions_processing ON executions (owner, id, function_seq) WHERE status = 'processing';

-- Functions that are gone and may have left executions.
CREATE TABLE deleted_functions (seq INTEGER PRIMARY KEY);
