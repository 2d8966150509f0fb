-- What does the first switch cost, and how soon is it made up for?
SELECT
    arm,
    setting,
    count(*) AS trials,
    avg(switch_step) AS switch_step,
    avg(switch_val_loss_before) AS before,
    avg(switch_val_loss_after) AS "after",
    avg(switch_drop) AS "drop",
    count(switch_recovery_steps) AS recovered,
    avg(switch_recovery_steps) AS recovery_steps
FROM trials
WHERE switch_step IS NOT NULL AND role <> 'tune'
GROUP BY arm, setting
ORDER BY arm, switch_step, setting
