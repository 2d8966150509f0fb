-- What do the measured spectra look like: ends, share below zero, share near it?
-- $tau = 0.01: eigenvalues of a smaller magnitude count as near zero
WITH points AS (
    SELECT trial_id, step, kind, unnest(eigenvalues) AS eigenvalue, unnest(weights) AS weight
    FROM spectra
), summaries AS (
    SELECT
        trial_id,
        step,
        kind,
        max(eigenvalue) AS lambda_max,
        min(eigenvalue) AS lambda_min,
        sum(weight) FILTER (eigenvalue < 0) AS negative,
        sum(weight) FILTER (abs(eigenvalue) < $tau) AS near_zero
    FROM points
    GROUP BY trial_id, step, kind
)
SELECT
    arm,
    step,
    kind,
    count(*) AS spectra,
    avg(lambda_max) AS lambda_max,
    avg(lambda_min) AS lambda_min,
    avg(coalesce(negative, 0)) AS negative,
    avg(coalesce(near_zero, 0)) AS near_zero
FROM summaries JOIN trials USING (trial_id)
WHERE role <> 'tune'
GROUP BY arm, step, kind
ORDER BY arm, step, kind
