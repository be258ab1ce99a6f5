-- part: deployment
d.id, d.created_at, d.updated_at, f.id, d.entrypoint, d.size, d.activate, d.digest,
b.id, b.status, b.start_time, b.end_time, d.chunks_total, d.chunks_uploaded

-- part: with_builds
FROM deployments d JOIN functions f ON f.seq = d.function_seq LEFT JOIN builds b ON b.deployment_seq = d.seq

-- name: create_deployment
INSERT INTO deployments (
    function_seq, id, created_at, updated_at, entrypoint, size, activate, digest, waits, words, chunks_total,
    chunks_uploaded
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (function_seq, id) DO NOTHING;

-- name: get_deployment
SELECT {deployment}, b.stdout, b.stderr {with_builds} WHERE f.project_id = ? AND f.id = ? AND d.id = ?;

-- name: find_deployment
SELECT d.seq, d.activate, d.digest, b.id, b.status {with_builds} WHERE d.function_seq = ? AND d.id = ?;

-- name: complete_deployment
UPDATE deployments
SET digest = ?, size = ?, updated_at = ?, waits = 1, chunks_uploaded = chunks_total WHERE seq = ?;

-- name: note_chunks
UPDATE deployments SET chunks_uploaded = ?, chunks_total = ?, updated_at = ? WHERE seq = ?;

-- name: is_elsewhere
SELECT EXISTS (
    SELECT 1 FROM deployments d JOIN functions f ON f.seq = d.function_seq
    WHERE d.id = ? AND f.project_id = ? AND f.seq != ?
);

-- name: clear_activate
UPDATE deployments SET activate = 0, updated_at = ? WHERE function_seq = ? AND seq != ? AND activate = 1;

-- name: expire_uploads
DELETE FROM deployments WHERE digest = '' AND created_at < ?
RETURNING (SELECT project_id FROM functions WHERE seq = function_seq),
    (SELECT f.id FROM functions f WHERE f.seq = function_seq), id;

-- name: delete_deployment
DELETE FROM deployments WHERE seq = ?;

-- name: digests_of_function
SELECT DISTINCT digest FROM deployments WHERE function_seq = ? AND digest != '';

-- name: is_digest_used
SELECT EXISTS (SELECT 1 FROM deployments WHERE digest = ?);

-- name: find_deployment_cursor
SELECT d.seq FROM deployments d JOIN functions f ON f.seq = d.function_seq
WHERE f.project_id = ? AND f.id = ? AND d.id = ?;

-- name: count_deployments
SELECT count(*) FROM (
    SELECT 1 FROM deployments WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id) LIMIT 5000
);

-- name: deployments_after
SELECT seq FROM deployments WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id) AND seq > :bound
ORDER BY seq LIMIT :limit OFFSET :offset;

-- name: deployments_before
SELECT seq FROM deployments WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id) AND seq < :bound
ORDER BY seq DESC LIMIT :limit OFFSET :offset;

-- name: count_found_deployments
SELECT count(*) FROM (
    SELECT 1 FROM deployments WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id)
    AND {matches} LIMIT 5000
);

-- name: found_deployments_after
SELECT seq FROM deployments WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id) AND seq > :bound
    AND {matches}
ORDER BY seq LIMIT :limit OFFSET :offset;

-- name: found_deployments_before
SELECT seq FROM deployments WHERE function_seq = (SELECT seq FROM functions WHERE project_id = :project_id AND id = :function_id) AND seq < :bound
    AND {matches}
ORDER BY seq DESC LIMIT :limit OFFSET :offset;

-- name: deployments_of_page
SELECT {deployment}, b.stdout, b.stderr {with_builds}
WHERE d.seq IN (SELECT value FROM json_each(?)) ORDER BY d.seq;

-- name: next_build
SELECT min(seq) FROM (
    SELECT min(seq) AS seq FROM deployments WHERE waits = 1
    UNION ALL
    SELECT min(deployment_seq) FROM builds INDEXED BY builds_building WHERE status = 'building' AND lease_until < ?
);

-- name: claim_build
INSERT INTO builds (deployment_seq, id, status, start_time, end_time, owner, lease_until, output, stdout, stderr)
VALUES (?, ?, 'building', ?, 0, ?, ?, '', '', '')
ON CONFLICT (deployment_seq) DO UPDATE
SET status = 'building', start_time = excluded.start_time, end_time = 0, owner = excluded.owner,
    lease_until = excluded.lease_until, output = '', stdout = '', stderr = '';

-- name: set_waits
UPDATE deployments SET waits = ?, updated_at = ? WHERE seq = ?;

-- name: claimed_build
SELECT {function}, {deployment}, f.project_id {with_builds} WHERE d.seq = ?;

-- name: build_log_sizes
SELECT length(CAST(stdout AS BLOB)), length(CAST(stderr AS BLOB)), deployment_seq FROM builds
WHERE id = ? AND owner = ? AND status = 'building';

-- name: append_build_log
UPDATE builds SET stdout = stdout || ?, stderr = stderr || ? WHERE id = ?;

-- name: finish_build
UPDATE builds SET status = ?, output = ?, end_time = ?, owner = '', lease_until = 0 WHERE id = ?;

-- name: note_build_successful
UPDATE builds SET stdout = 'Build Successful!' WHERE id = ? AND stdout = '';

-- name: touch_deployment
UPDATE deployments SET updated_at = ? WHERE seq = ?;

-- name: built_deployment
SELECT f.project_id, f.id, f.schedule, d.id, d.activate
FROM deployments d JOIN functions f ON f.seq = d.function_seq WHERE d.seq = ?;

-- name: empty_build
UPDATE builds
SET status = 'processing', start_time = 0, end_time = 0, owner = '', lease_until = 0, output = '', stdout = '', stderr = ''
WHERE deployment_seq = ?;

-- name: renew_builds
UPDATE builds SET lease_until = ? WHERE status = 'building' AND owner = ?;

-- name: abandoned_builds
SELECT deployment_seq, lease_until FROM builds WHERE status = 'building' AND lease_until < ?;
