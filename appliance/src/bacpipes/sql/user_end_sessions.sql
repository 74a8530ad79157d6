DELETE FROM app_session WHERE user_id = %(user)s AND digest IS DISTINCT FROM %(but)s::bytea
