-- name: has_listeners
SELECT 1 FROM listeners WHERE project_id = ? LIMIT 1;

-- name: listening
-- Functions with code to run, in the order in which the reference looks at them.
SELECT f.id, f.deployment FROM functions f
JOIN deployments d ON d.function_seq = f.seq AND d.id = f.deployment
JOIN builds b ON b.deployment_seq = d.seq AND b.status = 'ready'
WHERE f.seq IN (
    SELECT function_seq FROM listeners WHERE project_id = ? AND event IN (SELECT value FROM json_each(?))
)
ORDER BY f.name, f.seq;

-- name: remove_listeners
DELETE FROM listeners WHERE function_seq = (SELECT seq FROM functions WHERE project_id = ? AND id = ?);

-- name: add_listeners
INSERT INTO listeners (project_id, event, function_seq)
SELECT DISTINCT f.project_id, e.value, f.seq FROM json_each(?) e, functions f WHERE f.project_id = ? AND f.id = ?;

-- name: add_usage
INSERT INTO usage (function_seq, start, executions, failures, compute)
SELECT seq, ?, ?, ?, ? FROM functions WHERE project_id = ? AND id = ?
ON CONFLICT (function_seq, start) DO UPDATE
SET executions = executions + excluded.executions, failures = failures + excluded.failures,
    compute = compute + excluded.compute;

-- name: get_usage
SELECT start, executions, failures, compute FROM usage
WHERE function_seq = (SELECT seq FROM functions WHERE project_id = ? AND id = ?) AND start >= ? ORDER BY start;

-- name: delete_usage
DELETE FROM usage WHERE start < ?;
