-- How far is one arm from another, seed by seed, in the final loss?
-- $arm = 'looped': the arm that is looked at
-- $against = 'single': the arm that it is compared with
WITH means AS (
    SELECT arm, seed, avg(final_val_loss) AS loss, count(*) AS settings
    FROM trials
    WHERE status = 'ok' AND role = 'compare'
    GROUP BY arm, seed
)
SELECT seed, a.loss - b.loss AS difference, a.loss AS loss, b.loss AS against, a.settings, b.settings AS settings_against
FROM means AS a JOIN means AS b USING (seed)
WHERE a.arm = $arm AND b.arm = $against
ORDER BY seed
