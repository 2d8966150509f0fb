-- How does the loss of each arm fall, step by step, over seeds and settings?
SELECT
    arm,
    step,
    count(*) AS trials,
    avg(val_loss) AS loss,
    stddev_samp(val_loss) AS sd,
    min(val_loss) AS lowest,
    max(val_loss) AS highest
FROM metrics JOIN trials USING (trial_id)
WHERE role <> 'tune'
GROUP BY arm, step
ORDER BY arm, step
