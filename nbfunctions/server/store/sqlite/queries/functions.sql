-- part: function
f.id, f.created_at, f.updated_at, f.execute, f.name, f.status, f.runtime, f.deployment, f.vars, f.events,
f.schedule, f.schedule_next, f.schedule_previous, f.timeout, f.memory, f.concurrency

-- name: create_function
INSERT INTO functions (
    project_id, id, created_at, updated_at, execute, name, status, runtime, deployment, vars, events,
    schedule, schedule_next, schedule_previous, timeout, memory, concurrency, words
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project_id, id) DO NOTHING;

-- name: get_function
SELECT {function} FROM functions f WHERE f.project_id = ? AND f.id = ?;

-- name: get_active
SELECT {function}, {deployment}, b.output
FROM functions f
LEFT JOIN deployments d ON d.function_seq = f.seq AND d.id = f.deployment
LEFT JOIN builds b ON b.deployment_seq = d.seq
WHERE f.project_id = ? AND f.id = ?;

-- name: find_function
SELECT seq FROM functions WHERE project_id = ? AND id = ?;

-- name: update_function
UPDATE functions
SET updated_at = ?, execute = ?, name = ?, vars = ?, events = ?, schedule = ?, schedule_next = ?, timeout = ?,
    memory = ?, concurrency = ?, words = ?
WHERE project_id = ? AND id = ?;

-- name: activate_deployment
UPDATE functions SET deployment = ?, schedule_next = ?, updated_at = ? WHERE project_id = ? AND id = ?;

-- name: deactivate_deployment
UPDATE functions SET deployment = '' WHERE seq = ? AND deployment = ?;

-- name: delete_function
DELETE FROM functions WHERE seq = ?;

-- name: count_functions
SELECT count(*) FROM (
    SELECT 1 FROM functions WHERE project_id = :project_id LIMIT 5000
);

-- name: functions_after
SELECT seq FROM functions WHERE project_id = :project_id AND seq > :bound
ORDER BY seq LIMIT :limit OFFSET :offset;

-- name: functions_before
SELECT seq FROM functions WHERE project_id = :project_id AND seq < :bound
ORDER BY seq DESC LIMIT :limit OFFSET :offset;

-- name: count_found_functions
SELECT count(*) FROM (
    SELECT 1 FROM functions WHERE project_id = :project_id
    AND {matches} LIMIT 5000
);

-- name: found_functions_after
SELECT seq FROM functions WHERE project_id = :project_id AND seq > :bound
    AND {matches}
ORDER BY seq LIMIT :limit OFFSET :offset;

-- name: found_functions_before
SELECT seq FROM functions WHERE project_id = :project_id AND seq < :bound
    AND {matches}
ORDER BY seq DESC LIMIT :limit OFFSET :offset;

-- name: functions_of_page
SELECT {function} FROM functions f WHERE f.seq IN (SELECT value FROM json_each(?)) ORDER BY f.seq;

-- name: due_schedules
SELECT {function}, f.project_id FROM functions f
WHERE f.schedule_next > 0 AND f.schedule_next <= ? ORDER BY f.schedule_next, f.seq LIMIT ?;

-- name: next_schedule
SELECT coalesce(min(schedule_next), 0) FROM functions WHERE schedule_next > 0;

-- name: fire_schedule
UPDATE functions SET schedule_previous = ?, schedule_next = ?, updated_at = ?
WHERE project_id = ? AND id = ? AND schedule_next = ?;

-- part: matches
-- A parameter a word: for each row, json_each takes five times as long.
(
    instr(words, :needle_0) > 0 OR instr(words, :needle_1) > 0
    OR :further IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(:further) WHERE instr(words, value) > 0)
)
