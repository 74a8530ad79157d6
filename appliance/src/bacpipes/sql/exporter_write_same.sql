-- Is the job of this id the very command that is sent again?
SELECT point_id = %(point)s AND command_type = %(type)s AND value IS NOT DISTINCT FROM %(value)s
       AND priority = %(priority)s AND release_after IS NOT DISTINCT FROM %(release_after)s AND created_by = %(actor)s
       AND site_id = %(site)s
FROM write_commands WHERE job_id = %(job)s
