-- Which trials did not end well, and why?
SELECT arm, setting, seed, status, attempts, error, trial_id
FROM trials
WHERE status <> 'ok'
ORDER BY arm, setting, seed
