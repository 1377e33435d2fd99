import java.sql.*;
import java.util.*;

/** What pgJDBC asks of a server, and what it gets. */
public class Client {
    public static void main(String[] words) throws Exception {
        String url = words[0];
        try (Connection connection = DriverManager.getConnection(url, words[1], words.length > 2 ? words[2] : "")) {
            DatabaseMetaData about = connection.getMetaData();
            System.out.println("product " + about.getDatabaseProductName() + " " + about.getDatabaseProductVersion());
            print("schemas", about.getSchemas());
            print("catalogs", about.getCatalogs());
            print("tables", about.getTables(null, "public", "%", new String[] {"TABLE"}));
            print("columns", about.getColumns(null, "public", "hard", "%"));
            print("keys", about.getPrimaryKeys(null, "public", "hard"));
            print("indexes", about.getIndexInfo(null, "public", "hard", false, true));
            print("imported", about.getImportedKeys(null, "public", "hard"));
            print("types", about.getTypeInfo());
            print("functions", about.getFunctions(null, null, "%"));
            print("table types", about.getTableTypes());
            try (PreparedStatement statement = connection.prepareStatement("SELECT time, host, f, i, u, s, b FROM hard WHERE host = ? AND f > ? AND time >= ? ORDER BY hard.time")) {
                for (int n = 0; n < 8; n++) {
                    statement.setString(1, "h1");
                    statement.setDouble(2, -1.0);
                    statement.setTimestamp(3, new Timestamp(0));
                    try (ResultSet rows = statement.executeQuery()) {
                        int count = 0;
                        while (rows.next()) {
                            count++;
                            rows.getTimestamp(1); rows.getString(2); rows.getDouble(3); rows.getLong(4); rows.getBigDecimal(5); rows.getString(6); rows.getBoolean(7);
                        }
                        if (n == 7) System.out.println("prepared " + count);
                    }
                }
            }
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(500);
                long sum = 0;
                try (ResultSet rows = statement.executeQuery("SELECT v FROM many ORDER BY v")) {
                    while (rows.next()) sum += rows.getLong(1);
                }
                System.out.println("fetched " + sum);
            }
            connection.rollback();
            connection.setAutoCommit(true);
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery("SELECT * FROM nothing");
            } catch (SQLException error) {
                System.out.println("error " + error.getSQLState());
            }
            System.out.println("valid " + connection.isValid(5));
        }
    }

    static void print(String what, ResultSet rows) throws SQLException {
        ResultSetMetaData columns = rows.getMetaData();
        int count = 0;
        StringBuilder text = new StringBuilder();
        while (rows.next()) {
            count++;
            if (count <= 3) {
                for (int n = 1; n <= Math.min(columns.getColumnCount(), 6); n++) text.append(rows.getString(n)).append('|');
                text.append(' ');
            }
        }
        System.out.println(what + " " + count + " " + text);
    }
}
