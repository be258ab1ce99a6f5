-- part: execution
e.id, e.created_at, e.updated_at, e.read, f.id, e."trigger", e.status, e.status_code, e.response, e.stderr, e.time,
e.deployment_id, e.stdout, e.response_type, e.layer, e.cold, e.queued

-- name: create_execution
INSERT INTO executions (
    function_seq, id, created, created_at, updated_at, read, "trigger", status, deployment_id, owner, lease_until,
    user_id, event, data, event_data, depth, synchronous
)
SELECT seq, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM functions WHERE project_id = ? AND id = ?;

-- name: record_execution
INSERT INTO executions (
    function_seq, id, created, created_at, updated_at, read, "trigger", deployment_id, user_id, data,
    status, status_code, response, response_type, stdout, stderr, layer, time, queued, cold,
    owner, lease_until, event, event_data, synchronous
)
SELECT seq, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, '', '', 1
FROM functions WHERE project_id = ? AND id = ?;

-- name: functions_with_waiting
-- From function to function by the index, however many executions of each wait.
WITH RECURSIVE waiting (function_seq) AS (
    SELECT min(function_seq) FROM executions WHERE status = 'waiting'
    UNION ALL
    SELECT (SELECT min(function_seq) FROM executions WHERE status = 'waiting' AND function_seq > waiting.function_seq)
    FROM waiting WHERE waiting.function_seq IS NOT NULL
)
SELECT f.seq, f.concurrency FROM waiting JOIN functions f ON f.seq = waiting.function_seq;

-- name: count_processing
SELECT function_seq, count(*) FROM executions WHERE status = 'processing' GROUP BY function_seq;

-- name: oldest_waiting
SELECT seq FROM executions WHERE status = 'waiting' AND function_seq = ? ORDER BY seq LIMIT ?;

-- name: claim_executions
UPDATE executions SET status = 'processing', owner = ?, lease_until = ?, updated_at = ?
WHERE seq IN (SELECT value FROM json_each(?));

-- name: release_execution
UPDATE executions SET status = 'waiting', owner = '', lease_until = 0, updated_at = ?
WHERE status = 'processing' AND owner = ? AND id = ? AND function_seq IN (SELECT seq FROM functions) RETURNING seq;

-- name: claimed_executions
SELECT {function}, {deployment}, {execution},
    b.output, f.project_id, e.created, e.data, e.user_id, e.event, e.event_data, e.depth, e.synchronous
FROM executions e
JOIN functions f ON f.seq = e.function_seq
LEFT JOIN deployments d ON d.function_seq = e.function_seq AND d.id = e.deployment_id
LEFT JOIN builds b ON b.deployment_seq = d.seq
WHERE e.seq IN (SELECT value FROM json_each(?)) ORDER BY e.seq;

-- name: finish_execution
UPDATE executions
SET status = ?, status_code = ?, response = ?, response_type = ?, stdout = ?, stderr = ?, layer = ?, time = ?,
    queued = ?, cold = ?, updated_at = ?, owner = '', lease_until = 0
WHERE status = 'processing' AND owner = ? AND id = ? AND function_seq IN (SELECT seq FROM functions)
RETURNING function_seq, created_at, read, "trigger", deployment_id, user_id, depth, synchronous;

-- name: function_of
SELECT project_id, id FROM functions WHERE seq = ?;

-- name: fail_execution
UPDATE executions SET status_code = ?, layer = 'platform', stderr = ? WHERE seq = last_insert_rowid();

-- name: cancel_execution
UPDATE executions
SET status = 'failed', status_code = 500, layer = 'cancelled', stderr = ?, time = max(0, ? - created), updated_at = ?,
    owner = '', lease_until = 0
WHERE function_seq = ? AND id = ? AND status IN ('waiting', 'processing') RETURNING seq;

-- name: delete_execution
DELETE FROM executions WHERE function_seq = ? AND id = ? AND status IN ('completed', 'failed');

-- name: renew_executions
UPDATE executions SET lease_until = ? WHERE status = 'processing' AND owner = ?;

-- name: expire_executions
UPDATE executions INDEXED BY executions_processing
SET status = 'failed', status_code = 500, layer = 'platform', stderr = ?,
    time = max(0, coalesce(?, lease_until) - created), updated_at = CAST(coalesce(?, lease_until) AS INTEGER),
    owner = '', lease_until = 0
WHERE status = 'processing' AND lease_until < ? RETURNING seq;

-- name: changed_executions
SELECT {execution}, f.project_id, e.user_id, e.depth, e.synchronous
FROM executions e JOIN functions f ON f.seq = e.function_seq
WHERE e.seq IN (SELECT value FROM json_each(?)) ORDER BY e.seq;

-- name: count_waiting
SELECT count(*) FROM executions WHERE status = 'waiting' AND function_seq IN (SELECT seq FROM functions);

-- name: find_idempotency_key
SELECT k.digest, e.seq FROM idempotency_keys k JOIN executions e ON e.function_seq = k.function_seq AND e.id = k.execution_id
WHERE k.function_seq = ? AND k.caller = ? AND k.key = ? AND k.created >= ?;

-- name: keep_idempotency_key
INSERT OR REPLACE INTO idempotency_keys (function_seq, caller, key, digest, execution_id, created)
VALUES (?, ?, ?, ?, ?, ?);

-- name: delete_idempotency_keys
DELETE FROM idempotency_keys WHERE created < ?;

-- name: get_execution
SELECT {execution} FROM executions e JOIN functions f ON f.seq = e.function_seq
WHERE f.project_id = ? AND f.id = ? AND e.id = ?;

-- name: delete_executions
-- Rows come in the order in which they were accepted, give or take how long they ran: the oldest are the first.
DELETE FROM executions WHERE seq IN (
    SELECT seq FROM (SELECT seq, created, status FROM executions ORDER BY seq LIMIT 1000)
    WHERE created < ? AND status IN ('completed', 'failed') LIMIT ?
);

-- name: delete_executions_of_function
DELETE FROM executions WHERE seq IN (SELECT seq FROM executions WHERE function_seq = ? LIMIT ?);

-- name: remember_deleted_function
INSERT INTO deleted_functions (seq) VALUES (?);

-- name: next_deleted_function
SELECT min(seq) FROM deleted_functions;

-- name: forget_deleted_function
DELETE FROM deleted_functions WHERE seq = ?;

-- part: visible
(:read IS NULL OR e.read = :read)

-- part: of_function
e.function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id)

-- part: of_reader
-- The last condition says that the index of readers is the right one.
e.function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id)
AND e.read = :read AND e.read != '[]'

-- part: found
e.seq IN (
    SELECT seq FROM executions
    WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id)
        AND id IN (SELECT value FROM json_each(:words))
    UNION ALL
    SELECT seq FROM executions
    WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id)
        AND id >= :prefix AND id < :prefix_end
)

-- name: find_execution_cursor
SELECT e.seq FROM executions e WHERE {of_function} AND e.id = :cursor AND {visible};

-- name: count_executions
SELECT count(*) FROM (SELECT 1 FROM executions e WHERE {of_function} LIMIT 5000);

-- name: executions_after
SELECT e.seq FROM executions e WHERE {of_function} AND e.seq > :bound
ORDER BY e.seq LIMIT :limit OFFSET :offset;

-- name: executions_before
SELECT e.seq FROM executions e WHERE {of_function} AND e.seq < :bound
ORDER BY e.seq DESC LIMIT :limit OFFSET :offset;

-- name: count_own_executions
SELECT count(*) FROM (SELECT 1 FROM executions e WHERE {of_reader} LIMIT 5000);

-- name: own_executions_after
SELECT e.seq FROM executions e WHERE {of_reader} AND e.seq > :bound
ORDER BY e.seq LIMIT :limit OFFSET :offset;

-- name: own_executions_before
SELECT e.seq FROM executions e WHERE {of_reader} AND e.seq < :bound
ORDER BY e.seq DESC LIMIT :limit OFFSET :offset;

-- name: count_found_executions
SELECT count(*) FROM (SELECT 1 FROM executions e WHERE {found} AND {visible} LIMIT 5000);

-- name: found_executions_after
SELECT e.seq FROM executions e WHERE {found} AND e.seq > :bound AND {visible}
ORDER BY e.seq LIMIT :limit OFFSET :offset;

-- name: found_executions_before
SELECT e.seq FROM executions e WHERE {found} AND e.seq < :bound AND {visible}
ORDER BY e.seq DESC LIMIT :limit OFFSET :offset;

-- name: executions_of_page
SELECT {execution} FROM executions e JOIN functions f ON f.seq = e.function_seq
WHERE e.seq IN (SELECT value FROM json_each(?)) ORDER BY e.seq;
